"""A user model of a host project: no `objects`, no `username`, and UUIDs as keys."""

from uuid import uuid4

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models


class People(BaseUserManager):
    def create_superuser(self, email, password):
        person = self.model(email=email, is_staff=True, is_superuser=True)
        person.set_password(password)
        person.save()
        return person


class Person(AbstractBaseUser, PermissionsMixin):
    key = models.UUIDField(primary_key=True, default=uuid4)
    email = models.EmailField(unique=True)
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(default=False)

    people = People()

    USERNAME_FIELD = "email"


class Note(models.Model):
    """A table of the host, in its second database."""

    text = models.CharField(max_length=50)

    def __str__(self):
        return self.text
