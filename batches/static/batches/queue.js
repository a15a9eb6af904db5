// Makes the queue page live. Each button and each view of it works without this script too: it fetches what the browser
// would have loaded, and swaps the parts that changed.
"use strict";
(() => {
    const EVERY = 2000, LONGEST = 30000, PATIENCE = 6000; // milliseconds
    const queue = document.getElementById("queue");
    const byId = id => (id ? document.getElementById(id) : null);
    const lost = byId("queue-lost"), live = byId("queue-switch");
    let timer, request = 0, failures = 0, sending = false, dragged = null, refusal = null;

    const isLive = () => live.getAttribute("aria-checked") === "true";
    const headers = {"X-Requested-With": "fetch"};

    function schedule() {
        clearTimeout(timer);
        const wait = Math.min(EVERY * 2 ** failures, LONGEST);
        if (!document.hidden && (isLive() || failures)) timer = setTimeout(refresh, wait);
    }

    async function refresh() {
        if (sending || dragged) return schedule();
        clearTimeout(timer);
        const mine = ++request;
        try {
            const signal = AbortSignal.timeout(PATIENCE);
            const response = await fetch(queue.dataset.live + location.search, {headers, signal});
            if (response.status >= 500) throw new Error(response.statusText);
            const html = await response.text();
            if (mine !== request) return; // an answer from before the last button would bring back the old state
            show(html);
        } catch {
            if (mine !== request) return;
            lose();
        }
        schedule();
    }

    function lose() {
        failures += 1;
        queue.classList.add("queue-is-lost");
        const text = `The server does not answer. This is the state ${byId("queue-as-of").textContent.trim()}. Trying again …`;
        if (lost.textContent !== text) lost.textContent = text; // read out once, not at each try
    }

    function show(html, url) {
        const fresh = new DOMParser().parseFromString(html, "text/html");
        if (!fresh.getElementById("queue-running")) return location.reload(); // logged out: to the login, and back
        failures = 0;
        queue.classList.remove("queue-is-lost");
        lost.textContent = "";
        if (url) history.replaceState(null, "", url);
        const focused = document.activeElement, row = focused.closest("[data-batch]");
        byId("queue-refusal")?.remove();
        for (const part of fresh.querySelectorAll("[data-part]")) swap(byId(part.id), part);
        if (!focused.isConnected) focus(focused.id, row?.dataset.batch);
        showRefusal();
    }

    function swap(old, part) {
        if (old.innerHTML === part.innerHTML) return;
        const edited = [...old.querySelectorAll("input[id]")].filter(
            input => input.checked !== input.defaultChecked || input.value !== input.defaultValue);
        old.replaceChildren(...part.childNodes);
        for (const {id, checked, value} of edited) Object.assign(byId(id) ?? {}, {checked, value});
    }

    function focus(...ids) {
        const id = ids.find(id => byId(id) && !byId(id).disabled);
        byId(id)?.focus({preventScroll: true});
    }

    async function send(form, button) {
        sending = true;
        request += 1;
        queue.classList.add("queue-is-sending");
        try {
            const body = new FormData(form, button);
            const response = await fetch(button.getAttribute("formaction") ?? form.action, {method: "POST", body, headers});
            const text = await response.text();
            if (response.ok) {
                if ("clears" in button.dataset) form.reset();
                show(text, response.url);
            } else {
                refuse(button, response.status === 409 ? text : `Refused (${response.status}). Reload the page and try again.`);
            }
        } catch {
            refuse(button, "The server does not answer: nobody knows whether this was done.");
        }
        sending = false;
        queue.classList.remove("queue-is-sending");
        refresh(); // shows the fresh order after a refusal, or that the connection is lost
    }

    function refuse(button, text) {
        refusal = {text, button: button.id, row: button.closest("[data-batch]")?.dataset.batch};
        byId("queue-announce").textContent = text;
        showRefusal();
    }

    function showRefusal() {
        if (!refusal) return;
        const {text, button, row} = refusal;
        const note = Object.assign(document.createElement("p"), {id: "queue-refusal", className: "queue-refusal", textContent: text});
        if (byId(button)) byId(button).after(note);
        else (byId(row) ?? byId("queue-banner")).append(note);
    }

    function forget() { // what was said of the last action
        refusal = null;
        byId("queue-messages").replaceChildren();
        byId("queue-refusal")?.remove();
        byId("queue-announce").textContent = "";
    }

    async function visit(search, ...focusOn) {
        history.pushState(null, "", search);
        await refresh();
        focus(...focusOn);
    }

    document.addEventListener("submit", event => {
        const {target: form, submitter} = event;
        if (!queue.contains(form) || (submitter && "plain" in submitter.dataset)) return;
        event.preventDefault();
        if (sending || submitter?.id === "queue-nothing") return;
        forget();
        if (form.method === "post") send(form, submitter);
        else visit(`?${new URLSearchParams(new FormData(form, submitter))}`, "move-confirm", "move-cancel", submitter?.id);
    });
    queue.addEventListener("click", event => {
        const link = event.target.closest("a[href^='?']");
        if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        forget();
        visit(link.getAttribute("href"), link.id, link.closest("[data-batch]")?.dataset.batch);
    });
    live.addEventListener("click", () => {
        live.setAttribute("aria-checked", String(!isLive()));
        queue.classList.toggle("queue-is-stopped", !isLive());
        refresh();
    });

    const rowAt = event => event.target.closest("[data-position]");
    queue.addEventListener("dragstart", event => {
        dragged = event.target.matches(".queue-handle") ? rowAt(event) : null;
        if (dragged) event.dataTransfer.setDragImage(dragged, 0, 0);
    });
    queue.addEventListener("dragover", event => dragged && rowAt(event) && event.preventDefault());
    queue.addEventListener("drop", event => {
        const form = dragged?.querySelector("form");
        dragged = null;
        if (!form || !rowAt(event)) return;
        event.preventDefault();
        form.querySelector("[type=number]").value = rowAt(event).dataset.position;
        form.requestSubmit();
    });
    queue.addEventListener("dragend", () => { dragged = null; });

    addEventListener("popstate", () => location.reload());
    addEventListener("online", refresh);
    document.addEventListener("visibilitychange", () => document.hidden ? clearTimeout(timer) : refresh());

    queue.classList.add("queue-is-live");
    live.hidden = false;
    schedule();
})();
