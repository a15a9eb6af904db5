// The queue page: keeps its filter in the address, and lets a batch be dragged. live.js keeps it live.
"use strict";
(() => {
    const queue = live.root;
    let dragged = null;

    async function visit(search, ...focusOn) {
        live.forget();
        history.pushState(null, "", search);
        await live.refresh();
        live.focus(...focusOn);
    }

    queue.addEventListener("submit", event => {
        const {target: form, submitter} = event;
        if (submitter?.id === "queue-nothing") return event.preventDefault();
        if (form.method !== "get") return;
        event.preventDefault();
        if (live.isSending()) return;
        visit(`?${new URLSearchParams(new FormData(form, submitter))}`, "move-confirm", "move-cancel", submitter?.id);
    });
    queue.addEventListener("click", event => {
        const link = event.target.closest("a[href^='?']");
        if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        const row = link.closest("[data-batch]")?.dataset.batch ?? "page-previous"; // of the last page, which has no next
        visit(link.getAttribute("href"), "pause-reason", "pause-cancel", link.id, row, "page-next");
    });

    // Menus: one is open at a time. It closes after a choice, a click elsewhere, or Escape.
    function closeMenus(but) {
        for (const menu of queue.querySelectorAll(".queue-menu[open]")) {
            if (menu === but) continue;
            if (menu.contains(document.activeElement)) menu.querySelector("summary").focus();
            menu.open = false;
        }
    }
    document.addEventListener("click", ({target}) => closeMenus(target.closest("a, button") ? null : target.closest(".queue-menu")));
    document.addEventListener("keydown", ({key}) => key === "Escape" && closeMenus(null));

    // Enter in a field with its own button presses that button.
    queue.addEventListener("keydown", event => {
        const button = event.key === "Enter" && document.getElementById(event.target.dataset.presses);
        if (!button) return;
        event.preventDefault();
        button.click();
    });

    const selected = document.getElementById("queue-selected");
    function countSelected() {
        if (!selected) return;
        const ticked = [...queue.querySelectorAll("[name=all]:checked")];
        const alone = [...queue.querySelectorAll("[name=selected]:checked")].filter(
            box => !ticked.some(all => all.closest("section").contains(box)));
        const count = ticked.reduce((sum, {dataset}) => sum + Number(dataset.count), alone.length);
        const text = selected.dataset.counted.replace("{count}", count.toLocaleString(document.documentElement.lang));
        if (selected.textContent !== text) selected.textContent = text;
    }
    queue.addEventListener("change", countSelected);
    queue.addEventListener("refreshed", countSelected);

    function keepShownMove() { // so that the next responses compare it with what it passed when it was shown
        const shown = queue.querySelector("[data-address]");
        if (shown) history.replaceState(null, "", shown.dataset.address);
    }
    queue.addEventListener("refreshed", keepShownMove);
    keepShownMove();

    function drag(row) {
        dragged = row;
        live.hold(row !== null);
    }

    const rowAt = event => event.target.closest("[data-position]");
    queue.addEventListener("dragstart", event => {
        drag(event.target.matches(".queue-handle") ? rowAt(event) : null);
        if (dragged) event.dataTransfer.setDragImage(dragged, 0, 0);
    });
    queue.addEventListener("dragover", event => dragged && rowAt(event) && event.preventDefault());
    queue.addEventListener("drop", event => {
        const position = dragged?.querySelector("[type=number]");
        drag(null);
        if (!position || !rowAt(event)) return;
        event.preventDefault();
        position.value = rowAt(event).dataset.position;
        position.form.requestSubmit();
    });
    queue.addEventListener("dragend", () => drag(null));

    let shown = location.search;
    queue.addEventListener("refreshed", () => { shown = location.search; });
    addEventListener("popstate", () => location.search !== shown && location.reload()); // not for a link within the page
})();
