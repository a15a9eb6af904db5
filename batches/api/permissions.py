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

#: Lets in who may do some of it; which, only the body says.
ANY_BULK = (OPERATE, DELETE)


class BatchPermissions(BasePermission):
    """Lets in who has the permission (of several: one of them) that the view's `permissions` name for the call."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not request.user.is_authenticated:
            return False
        # Methods that the view does not have are nobody's business here: the answer is 405.
        if view.action in {None, "metadata"}:
            return True
        wanted = view.permissions[view.action]
        return any(request.user.has_perm(one) for one in ([wanted] if isinstance(wanted, str) else wanted))
