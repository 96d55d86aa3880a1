// The matrix: a grid of at most SIZE by SIZE cells, with pages for the rest. One cell is in the tab order, and arrow
// keys move the focus.

const matrix = {
    SIZE: 50,

    start() {
        this.scroll = byId("matrix-scroll");
        this.status = byId("matrix-status");
        const cellOf = (event) => event.target.closest?.("[role=gridcell]");
        this.scroll.addEventListener("click", (event) => cellOf(event) && this.activate(cellOf(event)));
        this.scroll.addEventListener("keydown", (event) => cellOf(event) && this.key(event));
        this.scroll.addEventListener("focusin", (event) => cellOf(event) && this.point(cellOf(event)));
        this.scroll.addEventListener("mouseover", (event) => cellOf(event) && this.point(cellOf(event)));
        this.scroll.addEventListener("mouseleave", () => this.point(null));
        chosen.followers.push(() => this.refilter());
    },

    // Starts over with the nodes that the filters leave.
    refilter() {
        this.rows = { all: chosen.from, first: 0 };
        this.columns = { all: chosen.to, first: 0 };
        const { omitted } = chosen.level === levels.workloads ? data.matrix.workloads : data.matrix;
        const legend = omitted > 0 ? [...chosen.level.legend, "unlisted"] : chosen.level.legend;
        const entries = legend.map((name) => {
            const { mark, word } = OUTCOMES[name];
            return element(
                "li",
                {},
                element("i", { class: `mark ${mark}`, "aria-hidden": "true" }),
                " ",
                word,
            );
        });
        document.querySelector("#matrix .legend").replaceChildren(...entries);
        byId("matrix-note").hidden = omitted === 0;
        byId("matrix-note").textContent =
            `${plural(omitted, "pair")} of ${chosen.level.noun}s left out; portcullis trace explains any pair.`;
        this.counted = this.tally();
        this.draw(0, 0);
    },

    page(axis) {
        return axis.all.slice(axis.first, axis.first + this.SIZE);
    },

    draw(row, column) {
        const { level } = chosen;
        const [rows, columns] = [this.page(this.rows), this.page(this.columns)];
        this.drawPager();
        this.at = { row: Math.min(row, rows.length - 1), column: Math.min(column, columns.length - 1) };
        if (rows.length === 0 || columns.length === 0) {
            this.scroll.replaceChildren(
                element(
                    "p",
                    { class: "note" },
                    level.nodes.length === 0 ? "No pods are known." : `No ${level.noun} matches the filter.`,
                ),
            );
            this.status.textContent = "";
            return;
        }
        const label = (index) =>
            element("span", { title: level.nodes[index].name }, named(level.labels[index]));
        const head = columns.map((to, position) =>
            element(
                "th",
                { scope: "col", role: "columnheader", "aria-colindex": this.columns.first + position + 2 },
                label(to),
            ),
        );
        const corner = element("td", { class: "corner" }, "from ↓ to →");
        const body = rows.map((from, y) =>
            element(
                "tr",
                { role: "row", "aria-rowindex": this.rows.first + y + 2 },
                element("th", { scope: "row", role: "rowheader" }, label(from)),
                ...columns.map((to, x) => this.cell(from, to, y, x)),
            ),
        );
        this.grid = element(
            "table",
            {
                role: "grid",
                class: "matrix",
                "aria-labelledby": "matrix-title",
                "aria-describedby": "matrix-hint",
                "aria-readonly": "true",
                "aria-rowcount": this.rows.all.length + 1,
                "aria-colcount": this.columns.all.length + 1,
            },
            element("thead", {}, element("tr", { role: "row", "aria-rowindex": "1" }, corner, ...head)),
            element("tbody", {}, ...body),
        );
        this.scroll.replaceChildren(this.grid);
        this.point(null);
    },

    cell(from, to, y, x) {
        const { level } = chosen;
        const isCurrent = y === this.at.row && x === this.at.column;
        return element(
            "td",
            {
                role: "gridcell",
                tabindex: isCurrent ? "0" : "-1",
                "aria-colindex": this.columns.first + x + 2,
                "aria-label": level.describe(from, to),
                class: from === to ? "self" : null,
                "data-row": y,
                "data-column": x,
            },
            element("i", { class: `mark ${level.outcome(from, to).mark}`, "aria-hidden": "true" }),
        );
    },

    drawPager() {
        const parts = [
            ["Rows", this.rows],
            ["Columns", this.columns],
        ].flatMap(([name, axis]) => {
            if (axis.all.length <= this.SIZE) return [];
            const last = Math.min(axis.first + this.SIZE, axis.all.length);
            const step = (by, word) => {
                const button = element(
                    "button",
                    { type: "button", "aria-label": `${word} ${name.toLowerCase()}` },
                    by < 0 ? "‹" : "›",
                );
                button.disabled = by < 0 ? axis.first === 0 : last === axis.all.length;
                button.addEventListener("click", () => {
                    axis.first += by;
                    this.draw(0, 0);
                    announce(`${name} from ${axis.first + 1}`);
                    byId("matrix-pager")
                        .querySelector(`[aria-label="${word} ${name.toLowerCase()}"]`)
                        ?.focus();
                });
                return button;
            };
            return [
                element(
                    "span",
                    {},
                    `${name}: showing ${number(axis.first + 1)}–${number(last)} of ${number(axis.all.length)} `,
                    step(-this.SIZE, "Previous"),
                    step(this.SIZE, "Next"),
                ),
            ];
        });
        byId("matrix-pager").replaceChildren(...parts);
        byId("matrix-pager").hidden = parts.length === 0;
    },

    ends(cell) {
        return [this.page(this.rows)[cell.dataset.row], this.page(this.columns)[cell.dataset.column]];
    },

    // Marks the headers of a cell, and says its outcome.
    point(cell) {
        for (const marked of this.grid?.querySelectorAll(".here") ?? []) marked.classList.remove("here");
        const focused = document.activeElement?.closest?.("#matrix-scroll [role=gridcell]");
        const target = cell ?? focused;
        if (!target) {
            this.status.textContent = this.counted;
            return;
        }
        this.status.textContent = chosen.level.describe(...this.ends(target));
        target.parentElement.cells[0].classList.add("here");
        this.grid.tHead.rows[0].cells[target.cellIndex].classList.add("here");
    },

    // The number of pairs of each outcome.
    tally() {
        const { level } = chosen;
        const counts = new Map();
        const total = this.rows.all.length * this.columns.all.length;
        let rest = total;
        for (const { outcome } of level.pairs(this.rows.all, this.columns.all)) {
            counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
            rest -= 1;
        }
        const usual = level.otherwise.outcome;
        if (rest > 0) counts.set(usual, (counts.get(usual) ?? 0) + rest);
        const facts = Object.keys(OUTCOMES).filter((outcome) => counts.has(outcome));
        const parts = facts.map((outcome) => `${number(counts.get(outcome))} ${outcome}`);
        return `${plural(total, "pair")}: ${parts.join(", ")}`;
    },

    activate(cell) {
        this.focus(Number(cell.dataset.row), Number(cell.dataset.column));
        detail.open(chosen.level, ...this.ends(cell));
    },

    key(event) {
        const { row, column } = this.at;
        const [height, width] = [this.page(this.rows).length, this.page(this.columns).length];
        const whole = event.ctrlKey || event.metaKey;
        const moves = {
            ArrowUp: [row - 1, column],
            ArrowDown: [row + 1, column],
            ArrowLeft: [row, column - 1],
            ArrowRight: [row, column + 1],
            Home: [whole ? 0 : row, 0],
            End: [whole ? height - 1 : row, width - 1],
            PageUp: [Math.max(row - 10, 0), column],
            PageDown: [Math.min(row + 10, height - 1), column],
        };
        if (event.key === "Enter" || event.key === " ") {
            this.activate(event.target);
        } else if (moves[event.key] && !event.altKey) {
            this.move(...moves[event.key]);
        } else {
            return;
        }
        event.preventDefault();
    },

    // Moves to a cell. Beyond an edge comes the next page, if there is one.
    move(row, column) {
        const target = { row, column };
        for (const [axis, name] of [
            [this.rows, "row"],
            [this.columns, "column"],
        ]) {
            const length = this.page(axis).length;
            const turn = target[name] < 0 ? -this.SIZE : target[name] >= length ? this.SIZE : 0;
            if (turn === 0) continue;
            const first = axis.first + turn;
            if (first < 0 || first >= axis.all.length) return;
            axis.first = first;
            target[name] = turn < 0 ? this.SIZE - 1 : 0;
            this.draw(target.row, target.column);
        }
        this.focus(target.row, target.column);
    },

    focus(row, column) {
        const find = (at) => this.grid.tBodies[0].rows[at.row].cells[at.column + 1];
        find(this.at).tabIndex = -1;
        this.at = { row, column };
        find(this.at).tabIndex = 0;
        find(this.at).focus();
    },
};

matrix.start();
