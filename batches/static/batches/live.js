// Keeps a page live: looks again and again, swaps the parts that changed, and sends its buttons. Each button and each
// view of such a page works without this script too: it fetches what the browser would have loaded.
"use strict";
const live = (() => {
    const EVERY = 2000, LONGEST = 30000, PATIENCE = 6000; // milliseconds
    const root = document.querySelector("[data-live]"); // what is around the parts; its id begins the ids of this script's own
    const byId = id => (id ? document.getElementById(id) : null);
    const own = name => byId(`${root.id}-${name}`);
    const lost = own("lost"), liveSwitch = own("switch");
    const headers = {"X-Requested-With": "fetch"};
    let timer, request = 0, failures = 0, sending = false, held = false, refusal = null;

    const isLive = () => liveSwitch.getAttribute("aria-checked") === "true";

    function schedule() {
        clearTimeout(timer);
        const wait = Math.min(EVERY * 2 ** failures, LONGEST);
        if (!document.hidden && (isLive() || failures)) timer = setTimeout(refresh, wait);
    }

    async function refresh() {
        if (sending || held) return schedule();
        clearTimeout(timer);
        const mine = ++request;
        try {
            const html = await load(root.dataset.live + location.search);
            if (mine !== request) return; // an answer from before the last button would bring back the old state
            show(html);
        } catch {
            if (mine !== request) return;
            lose();
        }
        schedule();
    }

    async function load(address, patience = PATIENCE) {
        const response = await fetch(address, {headers, signal: AbortSignal.timeout(patience)});
        if (response.status >= 500) throw new Error(response.statusText);
        return response.text();
    }

    function lose() {
        failures += 1;
        root.classList.add("live-is-lost");
        const text = `The server does not answer. This is the state ${own("as-of").textContent.trim()}. Trying again …`;
        if (lost.textContent !== text) lost.textContent = text; // read out once, not at each try
    }

    function show(html, url) {
        const parts = partsOf(html);
        if (!parts.length) return location.reload(); // logged out: to the login, and back
        failures = 0;
        root.classList.remove("live-is-lost");
        lost.textContent = "";
        if (url) history.replaceState(null, "", url);
        own("refusal")?.remove();
        swapAll(parts);
        showRefusal();
        root.dispatchEvent(new Event("shown"));
    }

    function partsOf(html) {
        return [...new DOMParser().parseFromString(html, "text/html").querySelectorAll("[data-part]")];
    }

    function swapAll(parts) {
        const focused = document.activeElement, row = focused.closest("[data-batch]");
        for (const part of parts) swap(byId(part.id), part);
        if (!focused.isConnected) focus(focused.id, row?.dataset.batch);
    }

    function swap(old, part) {
        if (!old || old.innerHTML === part.innerHTML) return;
        const edited = [...old.querySelectorAll("input[id]")].filter(
            input => input.checked !== input.defaultChecked || input.value !== input.defaultValue);
        const opened = [...old.querySelectorAll("details[id][open]")];
        old.replaceChildren(...part.childNodes);
        for (const {id, checked, value} of edited) Object.assign(byId(id) ?? {}, {checked, value});
        for (const {id} of opened) byId(id)?.setAttribute("open", "");
    }

    function focus(...ids) {
        const id = ids.find(id => byId(id) && !byId(id).disabled);
        byId(id)?.focus({preventScroll: true});
    }

    async function send(form, button) {
        sending = true;
        request += 1;
        root.classList.add("live-is-sending");
        try {
            const body = new FormData(form, button);
            const response = await fetch(button.getAttribute("formaction") ?? form.action, {method: "POST", body, headers});
            const text = await response.text();
            if (response.status === 201) return location.assign(response.headers.get("Location")); // to what it made
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
        root.classList.remove("live-is-sending");
        refresh(); // shows the fresh state after a refusal, or that the connection is lost
    }

    function refuse(button, text) {
        refusal = {text, button: button.id, row: button.closest("[data-batch]")?.dataset.batch};
        own("announce").textContent = text;
        showRefusal();
    }

    function showRefusal() {
        if (!refusal) return;
        const {text, button, row} = refusal;
        const note = Object.assign(document.createElement("p"), {id: `${root.id}-refusal`, className: "live-refusal", textContent: text});
        if (byId(button)) byId(button).after(note);
        else (byId(row) ?? own("banner") ?? root).append(note);
    }

    function forget() { // what was said of the last action
        refusal = null;
        own("messages").replaceChildren();
        own("refusal")?.remove();
        own("announce").textContent = "";
    }

    document.addEventListener("submit", event => {
        const {target: form, submitter, defaultPrevented} = event;
        if (defaultPrevented || !root.contains(form) || form.closest("[data-plain]") || "plain" in (submitter?.dataset ?? {})) return;
        event.preventDefault();
        if (sending) return;
        forget();
        send(form, submitter);
    });
    liveSwitch.addEventListener("click", () => {
        liveSwitch.setAttribute("aria-checked", String(!isLive()));
        root.classList.toggle("live-is-stopped", !isLive());
        refresh();
    });
    addEventListener("online", refresh);
    document.addEventListener("visibilitychange", () => document.hidden ? clearTimeout(timer) : refresh());

    root.classList.add("live-is-on");
    liveSwitch.hidden = false;
    schedule();

    return {
        root, refresh, load, focus, forget,
        swapIn: html => swapAll(partsOf(html)),
        hold: whether => { held = whether; },
        isSending: () => sending,
    };
})();
