// Lists of HTML items: a long one shows its first items, and gets a filter.

class List {
    constructor(root) {
        this.root = root;
        this.items = [...root.querySelectorAll("[data-item]")];
        this.texts = this.items.map((item) => item.textContent);
        this.step = Number(root.dataset.list);
        this.limit = this.step;
        this.noun = root.dataset.noun;
        this.form = root.querySelector("form") ?? this.addForm();
        this.count = element("p", { class: "note" });
        this.more = element("button", { type: "button", class: "more" });
        this.more.addEventListener("click", () => this.showMore());
        root.append(this.more);
        if (this.form) this.form.after(this.count);
        this.listen();
        this.show();
    }

    // A short list needs no filter.
    addForm() {
        if (this.items.length <= this.step) return null;
        const field = element("input", {
            type: "search",
            name: "text",
            autocomplete: "off",
            spellcheck: "false",
        });
        const form = element(
            "form",
            { class: "filters", role: "search", "aria-label": `Filter the ${this.noun}` },
            element("label", { class: "field" }, "Text ", field),
        );
        this.root.prepend(form);
        return form;
    }

    listen() {
        if (!this.form) return;
        this.form.hidden = false;
        const changed = settled(() => {
            this.limit = this.step;
            this.show();
            announce(this.count.textContent);
        });
        this.form.addEventListener("input", changed);
        this.form.addEventListener("reset", changed);
        this.form.addEventListener("submit", (event) => event.preventDefault());
    }

    // Returns the test of an item and its text by what the form says now.
    filter() {
        const form = new FormData(this.form ?? undefined);
        const words = form.get("text") ?? "";
        const actions = this.form?.querySelector("[name=action]") ? form.getAll("action") : null;
        const wanted = ["rule", "namespace"]
            .map((name) => [name, form.get(name) ?? "*"])
            .filter(([, value]) => value !== "*");
        return (item, text) =>
            (actions === null || actions.includes(item.dataset.action)) &&
            wanted.every(([name, value]) => item.dataset[name] === value) &&
            matches(text, words);
    }

    show() {
        const test = this.filter();
        let found = 0;
        this.items.forEach((item, position) => {
            const passes = test(item, this.texts[position]);
            found += passes ? 1 : 0;
            item.hidden = !passes || found > this.limit;
        });
        const shown = Math.min(found, this.limit);
        const of = found === this.items.length ? "" : ` that match, of ${number(this.items.length)}`;
        this.count.textContent =
            shown < found
                ? `Showing ${number(shown)} of ${number(found)} ${this.noun}${of}`
                : `Showing ${number(found)} ${this.noun}${of}`;
        const left = found - shown;
        this.more.hidden = left === 0;
        this.more.textContent = `Show ${number(Math.min(left, this.step))} more ${this.noun}`;
    }

    showMore() {
        const next = this.items.filter((item) => !item.hidden).length;
        this.limit += this.step;
        this.show();
        // The button moves away or disappears: the reader goes on at the first new item.
        const first = this.items.filter((item) => !item.hidden)[next];
        if (!first) return;
        first.tabIndex = -1;
        first.focus();
    }
}

for (const root of document.querySelectorAll("[data-list]")) new List(root);

// A link to a check opens it.
function openTarget() {
    const target = location.hash.length > 1 && byId(location.hash.slice(1));
    if (target instanceof HTMLDetailsElement) target.open = true;
}
addEventListener("hashchange", openTarget);
openTarget();
