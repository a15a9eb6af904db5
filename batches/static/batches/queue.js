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
        visit(link.getAttribute("href"), link.id, link.closest("[data-batch]")?.dataset.batch);
    });

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
        const form = dragged?.querySelector("form");
        drag(null);
        if (!form || !rowAt(event)) return;
        event.preventDefault();
        form.querySelector("[type=number]").value = rowAt(event).dataset.position;
        form.requestSubmit();
    });
    queue.addEventListener("dragend", () => drag(null));

    addEventListener("popstate", () => location.reload());
})();
