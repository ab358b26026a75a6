// Elements are made of text, never of markup: what apps and files say stays text.

const svgSpace = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
        if (typeof value === "function")
            node.addEventListener(name, value);
        else
            node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
}

export function element(name, attributes = {}, ...children) {
    return fill(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
    return fill(document.createElementNS(svgSpace, name), attributes, children);
}

export function setText(node, text) {
    if (node.textContent !== text)
        node.textContent = text;
}

export function setAttribute(node, name, value) {
    if (node.getAttribute(name) !== value)
        node.setAttribute(name, value);
}

// Rows keep their elements as long as what they are about is there: nothing flickers, and the focus stays.
export class Rows {
    constructor(parent, make) {
        this.parent = parent;
        this.make = make; // of a key: an object with its elements, and a method update
        this.rows = new Map();
    }

    update(items, keyOf) {
        const wanted = new Set(items.map(keyOf));
        for (const [key, row] of this.rows) {
            if (!wanted.has(key)) {
                row.elements.forEach(e => e.remove());
                this.rows.delete(key);
            }
        }
        let next = this.parent.firstElementChild;
        for (const item of items) {
            const key = keyOf(item);
            let row = this.rows.get(key);
            if (!row)
                this.rows.set(key, row = this.make(item));
            row.update(item);
            for (const e of row.elements) {
                if (e === next)
                    next = e.nextElementSibling;
                else
                    this.parent.insertBefore(e, next);
            }
        }
    }
}
