"""The permissions of the admin, one for each call of the API."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

VIEW = "batches.view_batch"
ADD = "batches.add_batch"
CHANGE = "batches.change_batch"
DELETE = "batches.delete_batch"
OPERATE = "batches.operate_batch"
VIEW_ROWS = "batches.view_batchprofile"
VIEW_LOGS = "batches.view_batchlog"
VIEW_STORIES = "batches.view_storyresult"
VIEW_PROFILES = "batches.view_profile"


class BatchPermissions(BasePermission):
    """Requires the permission that the view's `required_permissions` name for the action; of several, any one."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not request.user.is_authenticated:
            return False
        if view.action in {None, "metadata"}:  # the view does not have this method: the answer is 405
            return True
        required = view.required_permissions[view.action]
        if required == VIEW and getattr(request.auth, "may_view", False):
            return True
        return any(map(request.user.has_perm, [required] if isinstance(required, str) else required))
