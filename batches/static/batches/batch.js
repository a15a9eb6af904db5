// A batch's page: fetches what is dear, the charts and what stands beside them, when live.js has shown that it changed.
"use strict";
(() => {
    const AT_LEAST = 5000, PATIENCE = 120000; // milliseconds
    const REST = 10; // times as long as the last answer took: a large batch costs the server a tenth of its time at most
    const details = document.querySelector("[data-details]");
    const text = id => document.getElementById(id)?.textContent;
    let notBefore = 0, loading = false;

    async function look() {
        const isFresh = text("batch-details-state") === text("batch-state");
        if (isFresh || loading || document.hidden || performance.now() < notBefore) return;
        loading = true;
        const began = performance.now();
        try {
            live.swapIn(await live.load(details.dataset.details, PATIENCE));
            say("");
        } catch {
            say("The charts and what stands beside them could not be read. Trying again …");
        }
        const took = performance.now() - began;
        notBefore = performance.now() + Math.max(AT_LEAST, REST * took);
        loading = false;
    }

    function say(sentence) {
        const note = document.getElementById("batch-details-lost");
        if (note.textContent !== sentence) note.textContent = sentence;
    }

    live.root.addEventListener("shown", look);
    look();
})();
