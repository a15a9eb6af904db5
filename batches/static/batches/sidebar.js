// Closes Django's sidebar until somebody opens it: beside it, the lists would be cut at 1280 pixels.
"use strict";
{
    const name = "django.admin.navSidebarIsOpen";
    if (localStorage.getItem(name) === null) localStorage.setItem(name, "false");
}
