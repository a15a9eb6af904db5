// Previews the list without leaving the page, so that a chosen file stays chosen. Without this script the browser sends
// the same form, and the server returns a file's content in the text field.
"use strict";
(() => {
    const byId = id => document.getElementById(id);
    const form = byId("batch_form"), text = byId("id_addresses");
    const status = byId("add-status"), texts = status.dataset; // in the reader's language
    const LIST = ["file", "addresses", "strict"]; // fields that change the preview
    let request = 0, isAdding = false;

    function say(sentence, isNote = false) {
        status.textContent = sentence;
        status.classList.toggle("add-note", isNote);
    }

    form.addEventListener("submit", event => {
        if (event.submitter?.name === "rejected") return; // the browser stores the file, and stays on the page
        if (isAdding) return event.preventDefault();
        if (event.submitter?.name === "add") {
            isAdding = true; // ignores a second click only; users who stop the first request can try again
            setTimeout(() => { isAdding = false; }, 5000);
            return say(texts.adding);
        }
        event.preventDefault();
        preview(event.submitter);
    });
    addEventListener("pageshow", () => { isAdding = false; }); // after the browser's Back

    form.addEventListener("input", event => {
        if (!LIST.includes(event.target.name)) return;
        request += 1; // drop the response for the old list
        if (!byId("add-title")) return say("");
        form.querySelector("[name=add]")?.remove(); // the rejected lines stay visible, to be corrected
        say(texts.changed, true);
    });

    async function preview(button) {
        const mine = ++request;
        if (isTooLong()) return refuse("addresses", texts.tooLong);
        if (isTooLarge()) return refuse("file", texts.tooLarge);
        say(texts.reading);
        try {
            const body = new FormData(form, button);
            const response = await fetch(location.href, {method: "POST", body, headers: {"X-Requested-With": "fetch"}});
            const answer = await response.text();
            const result = new DOMParser().parseFromString(answer, "text/html");
            if (mine !== request) return;
            // A page of the application, or a text of the server, that says why the upload was refused.
            const why = result.querySelector("h1 + p")?.textContent ?? answer.split("\r\n\r\n")[1];
            if (why && [413, 503].includes(response.status)) return say(why.trim());
            if (!result.getElementById("add-preview")) throw new Error(texts.http.replace("{status}", response.status));
            show(result);
        } catch (error) {
            if (mine === request) say(texts.unread.replace("{reason}", error.message));
        }
    }

    function isTooLong() {
        const limit = Number(text.dataset.limit) - 10000; // leaves room for the other fields
        return limit > 0 && new Blob([text.value.replaceAll("\n", "\r\n")]).size > limit;
    }

    function isTooLarge() {
        const file = byId("id_file");
        return file.files[0]?.size > Number(file.dataset.limit);
    }

    function show(result) {
        clearErrors();
        byId("add-preview").replaceWith(result.getElementById("add-preview"));
        const errors = [...result.querySelectorAll("[data-field]")];
        errors.forEach(part => showErrors(part.dataset.field, part));
        say(errors.length ? texts.invalid : "");
        (form.querySelector("[aria-invalid]") ?? byId("add-title") ?? form.querySelector(".errornote"))?.focus();
    }

    function showErrors(name, part) {
        const row = form.querySelector(`.field-${name}`), input = byId(`id_${name}`);
        (row ?? form.querySelector("fieldset").parentNode).prepend(...part.childNodes);
        row?.classList.add("errors");
        input?.setAttribute("aria-invalid", "true");
        if (input) describe(input);
    }

    function refuse(name, sentence) {
        const part = document.createElement("div");
        const list = Object.assign(document.createElement("ul"), {className: "errorlist", id: `id_${name}_error`});
        list.append(Object.assign(document.createElement("li"), {textContent: sentence}));
        part.append(list);
        clearErrors();
        showErrors(name, part);
        say(sentence);
        byId(`id_${name}`).focus();
    }

    function clearErrors() {
        form.querySelectorAll(".errorlist, .errornote").forEach(part => part.remove());
        form.querySelectorAll(".errors").forEach(row => row.classList.remove("errors"));
        form.querySelectorAll("[aria-invalid]").forEach(input => {
            input.removeAttribute("aria-invalid");
            describe(input);
        });
    }

    function describe(input) {
        const ids = [`${input.id}_error`, `${input.id}_helptext`].filter(byId);
        input.setAttribute("aria-describedby", ids.join(" "));
    }
})();
