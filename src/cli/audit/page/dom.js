// Text enters the page as text nodes only: names and messages come from objects that any user may write.

const byId = (id) => document.getElementById(id);

function element(name, attributes = {}, ...children) {
    return filled(document.createElement(name), attributes, children);
}

function drawn(name, attributes = {}, ...children) {
    return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
        if (value !== null && value !== undefined) node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
}

// Text in backticks becomes code, as in the lists.
function rich(text) {
    const parts = text.split("`");
    return parts.map((part, position) => {
        if (position % 2 === 0) return part;
        return position === parts.length - 1 ? "`" + part : element("code", {}, part);
    });
}

// `bdi` keeps right-to-left text in a name from reordering what surrounds it.
const named = (name) => element("bdi", {}, name);

const number = (value) => value.toLocaleString("en");
const plural = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;

// True for a text that contains every word of the filter.
function matches(text, filter) {
    const whole = text.toLowerCase();
    return filter
        .toLowerCase()
        .split(/\s+/)
        .every((word) => whole.includes(word));
}

// Runs once after a burst of events, so that typing stays fluent.
function settled(run) {
    let timer = 0;
    return () => {
        clearTimeout(timer);
        timer = setTimeout(run, 120);
    };
}

// Tells a screen reader what a filter left.
function announce(text) {
    byId("live").textContent = text;
}
