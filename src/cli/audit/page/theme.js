// The theme: that of the system, unless the reader chose one. Storage may be forbidden, as for files in some browsers.

const theme = {
    key: "portcullis-theme",

    read() {
        try {
            return localStorage.getItem(this.key) ?? "auto";
        } catch {
            return "auto";
        }
    },

    choose(name) {
        document.documentElement.dataset.theme = name;
        try {
            localStorage.setItem(this.key, name);
        } catch {
            // The choice lasts until the page is closed.
        }
    },

    start() {
        const choice = document.querySelector("fieldset.theme");
        const saved = choice.querySelector(`input[value="${CSS.escape(this.read())}"]`);
        if (saved) {
            saved.checked = true;
            document.documentElement.dataset.theme = saved.value;
        }
        choice.addEventListener("change", (event) => this.choose(event.target.value));
        choice.hidden = false;
    },
};

theme.start();
