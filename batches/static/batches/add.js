// Previews the list without leaving the page, so that a chosen file stays chosen. Without this script the same form is
// sent, and the server gives a file's text back in the text field.
"use strict";
(() => {
    const byId = id => document.getElementById(id);
    const form = byId("batch_form"), text = byId("id_addresses");
    const LIST = ["file", "addresses", "strict"]; // what the preview is made of
    let request = 0, isAdding = false;

    function say(sentence, isNote = false) {
        byId("add-said").textContent = sentence;
        byId("add-said").classList.toggle("add-note", isNote);
    }

    form.addEventListener("submit", event => {
        if (isAdding) return event.preventDefault();
        if (event.submitter?.name === "add") {
            isAdding = true; // a second click only; whoever stops the first one may try again
            setTimeout(() => { isAdding = false; }, 5000);
            return say("Adding the batch …");
        }
        event.preventDefault();
        preview(event.submitter);
    });
    addEventListener("pageshow", () => { isAdding = false; }); // here again by the browser's Back

    form.addEventListener("input", event => {
        if (!LIST.includes(event.target.name)) return;
        request += 1; // the answer to what it was before is not waited for
        if (!byId("add-title")) return say("");
        form.querySelector("[name=add]")?.remove(); // what was rejected stays in sight, to be corrected
        say("The list was changed after this preview. Preview it again.", true);
    });

    async function preview(button) {
        const mine = ++request;
        if (isTooLong()) return refuse("addresses", "This is too much to paste. Save it as a file, and upload that.");
        if (isTooLarge()) return refuse("file", "This file is too large to be read. Split it into several.");
        say("Reading the list …");
        try {
            const body = new FormData(form, button);
            const response = await fetch(location.href, {method: "POST", body, headers: {"X-Requested-With": "fetch"}});
            const answer = new DOMParser().parseFromString(await response.text(), "text/html");
            if (mine !== request) return;
            if (!answer.getElementById("add-preview")) throw new Error(`it answered ${response.status}`);
            show(answer);
        } catch (error) {
            if (mine === request) say(`The list was not read (${error.message}). Nothing is lost: try again. If the file was changed meanwhile, choose it again; if you were logged out, log in in another window first.`);
        }
    }

    function isTooLong() {
        const limit = Number(text.dataset.limit) - 10000; // some of it is for the other fields
        return limit > 0 && new Blob([text.value.replaceAll("\n", "\r\n")]).size > limit;
    }

    function isTooLarge() {
        const file = byId("id_file");
        return file.files[0]?.size > Number(file.dataset.limit);
    }

    function show(answer) {
        clearErrors();
        byId("add-preview").replaceWith(answer.getElementById("add-preview"));
        const errors = [...answer.querySelectorAll("[data-field]")];
        errors.forEach(part => showErrors(part.dataset.field, part));
        say(errors.length ? "Nothing was stored: correct what is marked." : "");
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
