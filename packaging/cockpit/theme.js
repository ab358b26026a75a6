"use strict";

// Cockpit's shell keeps the style in the local storage, and tells of a change to "auto", "dark" or "light" by
// this event (pkg/lib/cockpit-dark-theme.js in Cockpit's sources).
(function () {
    const dark = window.matchMedia("(prefers-color-scheme: dark)");

    function wear(style) {
        const wanted = style || window.localStorage.getItem("shell:style") || "auto";
        const isDark = wanted === "dark" || (wanted === "auto" && dark.matches);
        document.documentElement.classList.toggle("pf-v6-theme-dark", isDark);
    }

    window.addEventListener("storage", event => { if (event.key === "shell:style") wear(); });
    window.addEventListener("cockpit-style", event => wear(event.detail && event.detail.style));
    dark.addEventListener("change", () => wear());
    wear();
}());
