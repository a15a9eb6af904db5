// A batch's page: fetches the details (charts, failures, comparison) when live.js shows that they have changed.
"use strict";
(() => {
    const AT_LEAST = 5000, PATIENCE = 120000; // milliseconds
    const REST = 10; // times the duration of the last request: a large batch takes at most a tenth of the server's time
    const details = document.querySelector("[data-details]"), note = document.getElementById("batch-details-lost");
    const text = id => document.getElementById(id)?.textContent;
    let notBefore = 0, loading = false;

    async function refreshDetails() {
        const isFresh = text("batch-details-state") === text("batch-state");
        if (isFresh || loading || document.hidden || performance.now() < notBefore) return;
        loading = true;
        const began = performance.now();
        try {
            live.swapIn(await live.load(details.dataset.details, PATIENCE));
            say("");
        } catch {
            say(note.dataset.lost);
        }
        const took = performance.now() - began;
        notBefore = performance.now() + Math.max(AT_LEAST, REST * took);
        loading = false;
    }

    function say(sentence) {
        if (note.textContent !== sentence) note.textContent = sentence;
    }

    live.root.addEventListener("refreshed", refreshDetails);
    refreshDetails();
})();
