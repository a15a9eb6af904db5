// Keeps a page live: fetches it every two seconds, swaps the parts that changed, and sends its buttons. The page works
// without this script too, since it fetches what the browser would load.
"use strict";
const live = (() => {
    const EVERY = 2000, LONGEST = 30000, PATIENCE = 6000; // milliseconds
    const root = document.querySelector("[data-live]"); // contains the parts; its id is the prefix of this script's own ids
    const byId = id => (id ? document.getElementById(id) : null);
    const own = name => byId(`${root.id}-${name}`);
    const lost = own("lost"), liveSwitch = own("switch"); // `lost` has the texts, in the reader's language
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
            if (mine !== request) return; // a response from before the last button would show the old state
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
        const text = lost.dataset.lost.replace("{time}", own("updated").querySelector("time").textContent);
        if (lost.textContent !== text) lost.textContent = text; // announced once, not at each attempt
    }

    function show(html, url) {
        const parts = partsOf(html);
        if (!parts.length) return location.reload(); // logged out: go to the login, and back
        failures = 0;
        root.classList.remove("live-is-lost");
        lost.textContent = "";
        if (url) history.replaceState(null, "", url);
        own("refusal")?.remove();
        swapAll(parts);
        showRefusal();
        root.dispatchEvent(new Event("refreshed"));
    }

    function partsOf(html) {
        return [...new DOMParser().parseFromString(html, "text/html").querySelectorAll("[data-part]")];
    }

    function swapAll(parts) {
        const focused = document.activeElement, row = focused.closest("[data-batch]");
        for (const part of parts) swap(byId(part.id), part);
        if (!focused.isConnected || focused.disabled) focus(focused.id, row?.dataset.batch);
        else if (focused !== document.activeElement) focused.focus({preventScroll: true}); // its row was moved
    }

    function swap(old, part) {
        if (!old || old.innerHTML === part.innerHTML) return;
        updateChildren(old, part);
    }

    // Changes only what differs: what somebody has focused, typed, ticked or opened is still the same element.
    function update(old, fresh) {
        if (old.nodeType !== Node.ELEMENT_NODE) {
            if (old.data !== fresh.data) old.data = fresh.data;
            return;
        }
        for (const {name} of [...old.attributes]) if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
        for (const {name, value} of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
        updateChildren(old, fresh);
    }

    function updateChildren(old, fresh) {
        const wanted = new Set([...fresh.children].map(({id}) => id));
        for (const child of [...old.children]) if (child.id && !wanted.has(child.id)) child.remove();
        const byOwnId = new Map([...old.children].map(child => [child.id, child]));
        let place = old.firstChild;
        for (const child of [...fresh.childNodes]) {
            const kept = child.id ? byOwnId.get(child.id) : place && !place.id && place;
            if (child.id && kept) while (place !== kept && !place?.id) place = dropped(place);
            if (kept?.nodeName !== child.nodeName) {
                old.insertBefore(child, place);
                continue;
            }
            if (kept === place) place = place.nextSibling;
            else old.insertBefore(kept, place);
            update(kept, child);
        }
        while (place) place = dropped(place);
    }

    function dropped(node) {
        const next = node.nextSibling;
        node.remove();
        return next;
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
            if (response.status === 201) return location.assign(response.headers.get("Location")); // the new batch
            if (response.ok) {
                if ("clears" in button.dataset) form.reset();
                show(text, response.url);
            } else {
                refuse(button, response.status === 409 ? text : explain(response.status));
            }
        } catch {
            refuse(button, lost.dataset.unanswered);
        }
        sending = false;
        root.classList.remove("live-is-sending");
        refresh(); // shows the current state after a refusal, or the lost connection
    }

    function explain(status) {
        return lost.dataset[status < 500 ? "refused" : "failed"].replace("{status}", status);
    }

    function refuse(button, text) {
        refusal = {text, button: button.id, row: button.closest("[data-batch]")?.dataset.batch};
        button.closest("details")?.setAttribute("open", "");
        own("announce").textContent = text;
        showRefusal();
    }

    function showRefusal() {
        if (!refusal) return;
        const {text, button, row} = refusal;
        const note = Object.assign(document.createElement("p"), {id: `${root.id}-refusal`, className: "live-refusal", textContent: text});
        if (byId(button)?.checkVisibility()) byId(button).after(note);
        else if (byId(row)) byId(row).append(note);
        else lost.after(note); // the button was part of a message, or for a selection that is gone
    }

    function forget() { // the messages of the last action
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
        send(form, submitter); // reads the form at once: the button may be part of the message
        forget();
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
        hold: value => { held = value; },
        isSending: () => sending,
    };
})();
