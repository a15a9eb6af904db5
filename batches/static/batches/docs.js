// The documentation of the API. It requests nothing from other sites, and stores no token in the browser.
"use strict";
(() => {
    const {schema, csrfHeader, csrfToken} = document.getElementById("swagger-ui").dataset;

    // Swagger UI leaves the choice of the theme to the page: the admin's, otherwise the system's.
    const prefersDark = matchMedia("(prefers-color-scheme: dark)");
    function chooseTheme() {
        const chosen = localStorage.getItem("theme");
        document.documentElement.classList.toggle("dark-mode", chosen === "dark" || (chosen !== "light" && prefersDark.matches));
    }
    prefersDark.addEventListener("change", chooseTheme);
    chooseTheme();

    function addToken(request) {
        const isOwn = request.credentials === "same-origin"; // a token of this site is nobody else's business
        if (!["GET", undefined].includes(request.method) && isOwn) request.headers[csrfHeader] = csrfToken;
        return request;
    }

    SwaggerUIBundle({
        url: schema,
        dom_id: "#swagger-ui",
        presets: [SwaggerUIBundle.presets.apis],
        layout: "BaseLayout",
        requestInterceptor: addToken,
        deepLinking: true,
        validatorUrl: null,
        persistAuthorization: false,
    });
})();
