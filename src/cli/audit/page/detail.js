// The dialog about one pair: the outcome, and the policies that decide, in the words of `portcullis trace`.

const detail = {
    MAX_PAIRS: 50,
    RANK: ["allowed", "undecided", "blocked"],

    start() {
        this.dialog = byId("detail");
        byId("detail-close").addEventListener("click", () => this.dialog.close());
        // A click on the backdrop hits the dialog itself.
        this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    },

    open(level, from, to) {
        const [sender, receiver] = [level.nodes[from], level.nodes[to]];
        byId("detail-title").replaceChildren(named(sender.name), " to ", named(receiver.name));
        const body =
            level === levels.workloads
                ? this.workloads(level.cell(from, to), sender, receiver)
                : this.namespaces(level.cell(from, to), sender, receiver);
        byId("detail-body").replaceChildren(...body);
        this.dialog.showModal();
        byId("detail-body").scrollTop = 0;
    },

    verdict({ outcome, ports }) {
        const { mark, word } = OUTCOMES[outcome];
        const on = ports ? [" on ", element("b", {}, ports)] : [];
        return element(
            "p",
            { class: "verdict" },
            element("i", { class: `mark ${mark}`, "aria-hidden": "true" }),
            " ",
            word,
            ...on,
        );
    },

    workloads(cell, sender, receiver) {
        const unexplained = "This page explains a part of the pairs. The command explains this one.";
        const reasons = cell.explanation?.split("\n").map((line) => this.reason(line));
        const parts = [this.verdict(cell), ...(reasons ?? [element("p", { class: "note" }, unexplained)])];
        if (cell.policies?.length) {
            const lines = cell.policies.map((policy) =>
                element("li", {}, element("code", {}, named(policy))),
            );
            parts.push(
                element("h3", {}, "Policies that decide"),
                element("ul", { class: "plain" }, ...lines),
            );
        }
        const trace = `portcullis trace --from ${quoted(sender.name)} --to ${quoted(receiver.name)}`;
        parts.push(element("h3", {}, "Trace this pair"), element("pre", { tabindex: "0" }, trace));
        return parts;
    },

    // A line such as `egress: NetworkPolicy shop/a isolates egress`.
    reason(line) {
        const [subject, ...rest] = line.split(": ");
        const parts = rest.length === 0 ? rich(line) : [element("b", {}, subject), ...rich(rest.join(": "))];
        return element("p", { class: "reason" }, ...parts);
    },

    namespaces(cell, sender, receiver) {
        const inside = (name) =>
            levels.workloads.nodes.flatMap((node, index) => (node.namespace === name ? [index] : []));
        const receivers = inside(receiver.name);
        const all = inside(sender.name).flatMap((from) =>
            receivers.map((to) => ({ from, to, cell: levels.workloads.cell(from, to) })),
        );
        const pairs = all.filter((pair) => pair.cell.outcome !== "unlisted");
        const left = all.length - pairs.length;
        const rank = (pair) => this.RANK.indexOf(pair.cell.outcome);
        pairs.sort((one, other) => rank(one) - rank(other));
        const allowed = pairs.filter((pair) => pair.cell.outcome === "allowed").length;
        const shown = pairs.slice(0, this.MAX_PAIRS);
        const button = element("button", { type: "button" }, "Show these workloads in the matrix");
        button.addEventListener("click", () => {
            this.dialog.close();
            chosen.showWorkloads(sender.name, receiver.name);
        });
        return [
            this.verdict(cell),
            element("h3", {}, `${number(allowed)} of ${plural(pairs.length, "pair")} of workloads connect`),
            ...note(shown.length < pairs.length, `Showing ${shown.length} of ${number(pairs.length)}`),
            ...note(left > 0, `${plural(left, "more pair")} left out; portcullis trace explains any pair.`),
            ...shown.map((pair) => this.pair(pair)),
            ...(pairs.length > 0 ? [button] : []),
        ];
    },

    // A pair of workloads, whose reasons unfold.
    pair({ from, to, cell }) {
        const { nodes } = levels.workloads;
        const { mark, word } = OUTCOMES[cell.outcome];
        const short = (node) => named(within(node));
        return element(
            "details",
            { class: "pair" },
            element(
                "summary",
                {},
                element("i", { class: `mark ${mark}`, "aria-hidden": "true" }),
                " ",
                short(nodes[from]),
                " to ",
                short(nodes[to]),
                " ",
                element("span", { class: "faint" }, word, cell.ports ? ` on ${cell.ports}` : ""),
            ),
            ...this.workloads(cell, nodes[from], nodes[to]).slice(1),
        );
    },
};

const note = (isNeeded, text) => (isNeeded ? [element("p", { class: "note" }, text)] : []);

// A word as a shell reads it back.
const quoted = (word) => (/^[\w.,=/-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

detail.start();
