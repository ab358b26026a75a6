import { Rows, element, setText } from "./dom.js";
import { count } from "./words.js";

const labels = { error: "red", warning: "orange", note: "blue" };

// What is wrong with the files, as zerolet check says, and with the rest, as zerolet doctor does.
export class Problems {
    constructor(diagnostics, findings, health, mend) {
        this.health = health;
        this.diagnostics = new Rows(diagnostics, diagnostic);
        this.findings = new Rows(findings, finding => this.finding(finding, mend));
        this.clear();
    }

    clear() {
        this.files = this.rest = undefined; // nobody has looked yet
        this.diagnostics.update([], key);
        this.findings.update([], key);
        this.look();
    }

    look() {
        setText(this.health, "Looking …");
        this.health.className = "health";
    }

    allow(may) {
        this.may = may;
        this.show();
    }

    showFiles(diagnostics) {
        this.files = diagnostics;
        this.show();
    }

    // What the doctor says of a file's error stands there already. He may not have been able to look: null.
    showFindings(findings) {
        this.rest = findings && findings.filter(f => !f.file);
        this.show();
    }

    show() {
        const files = this.files || [], rest = this.rest || [];
        this.diagnostics.update(files, key);
        this.findings.update(rest.map(f => ({ ...f, may: this.may })), f => f.message + f.mend);
        const words = [];
        for (const severity of ["error", "warning", "note"]) {
            const n = files.filter(d => d.severity === severity).length;
            if (n > 0)
                words.push(count(n, severity));
        }
        if (rest.length > 0)
            words.push(count(rest.length, "finding"));
        if (this.rest === null)
            words.push("the doctor could not look");
        const known = this.files && this.rest !== undefined;
        const well = known && words.length === 0;
        if (known) {
            setText(this.health, well ? "All is well" : words.join(", "));
            this.health.className = well ? "health well" : "health";
        }
    }

    finding(first, mend) {
        let current = first;
        const click = () => mend(current);
        const run = element("button", { type: "button", class: "button secondary", click }, "Mend …");
        const how = element("p", { class: "subtle" }, "mend: ", element("code", {}, first.mend));
        const item = element("li", {}, element("p", {}, first.message), how, run);
        return {
            elements: [item],
            update(finding) {
                current = finding;
                run.hidden = !finding.command;
                run.disabled = !finding.may;
            },
        };
    }
}

function key(problem) {
    return JSON.stringify(problem);
}

function diagnostic(d) {
    const at = [d.file, d.line, d.column].filter(part => part).join(":");
    const severity = element("span", { class: `label ${labels[d.severity] || "grey"}` }, d.severity);
    const item = element("li", {}, element("p", {}, severity, " ", element("code", {}, at), " ", d.message));
    if (d.excerpt)
        item.append(element("pre", {}, d.excerpt));
    if (d.hint)
        item.append(element("p", { class: "subtle" }, "hint: ", d.hint));
    return { elements: [item], update() {} };
}
