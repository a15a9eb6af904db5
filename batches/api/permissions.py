"""Who may do what: the permissions of the admin, one for each call."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

VIEW = "batches.view_batch"
ADD = "batches.add_batch"
CHANGE = "batches.change_batch"
DELETE = "batches.delete_batch"
OPERATE = "batches.operate_batch"
# What a batch has is shown to those who may view it in the admin.
VIEW_ROWS = "batches.view_batchprofile"
VIEW_LOGS = "batches.view_batchlog"
VIEW_STORIES = "batches.view_storyresult"
VIEW_PROFILES = "batches.view_profile"

#: Lets in who may do some of it; which, only the body says.
ANY_BULK = (OPERATE, DELETE)


class BatchPermissions(BasePermission):
    """Lets in who has the permission (of several: one of them) that the view's `permissions` name for the call."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not request.user.is_authenticated:
            return False
        if view.action in {None, "metadata"}:  # a method that the view does not have: the answer is 405
            return True
        wanted = view.permissions[view.action]
        if wanted == VIEW and getattr(request.auth, "may_view", False):
            return True
        return any(request.user.has_perm(one) for one in ([wanted] if isinstance(wanted, str) else wanted))
