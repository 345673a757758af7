// Tables whose rows come and go while somebody works with them: what stays keeps its elements, and
// so the focus and what is selected.

import { make, setText } from "./dom.js";

export class Table {
  #rows = new Map();
  #body;
  #empty;
  #more;

  /** `columns` are {title, value(row), number} or {title, actions(row)}; `key(row)` tells rows
   * apart; `empty` is said where there are none.
   *
   * Actions are [{name, title, hidden, run}]; they are made once for each key, and are told the
   * row as it is then. */
  constructor({ caption, columns, key, empty }) {
    this.columns = columns;
    this.key = key;
    this.#body = make("tbody", { role: "rowgroup" });
    const head = columns.map((column) =>
      make("th", { scope: "col", role: "columnheader", className: kind(column) }, column.title));
    const table = make("table", { role: "table" },
      make("caption", {}, caption),
      make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...head)),
      this.#body);
    this.#empty = make("p", { className: "empty", hidden: true }, empty);
    this.#more = make("p", { className: "empty", hidden: true });
    this.element = make("div", { className: "table" }, table, this.#empty, this.#more);
  }

  /** Show these rows, in this order; `more`: there would be more of them. */
  update(rows, more = false) {
    const gone = new Set(this.#rows.keys());
    let place = this.#body.firstElementChild;
    for (const row of rows) {
      const key = this.key(row);
      gone.delete(key);
      let shown = this.#rows.get(key);
      if (!shown) {
        shown = this.#make(row);
        this.#rows.set(key, shown);
      }
      shown.row = row;
      this.#fill(shown);
      if (shown.element === place) place = place.nextElementSibling;
      else this.#body.insertBefore(shown.element, place);
    }
    for (const key of gone) {
      this.#rows.get(key).element.remove();
      this.#rows.delete(key);
    }
    this.element.firstElementChild.hidden = rows.length === 0;
    this.#empty.hidden = rows.length > 0;
    this.#more.hidden = !more;
    setText(this.#more, `These are the first ${rows.length}; there are more.`);
  }

  #make(row) {
    const shown = { row, cells: [] };
    shown.element = make("tr", { role: "row" });
    for (const [index, column] of this.columns.entries()) {
      const cell = make(index ? "td" : "th", { role: index ? "cell" : "rowheader", className: kind(column) });
      if (!index) cell.scope = "row";
      cell.dataset.label = column.title;
      for (const action of column.actions ? column.actions(row) : []) {
        const button = make("button", { type: "button" });
        button.addEventListener("click", () => action.run(shown.row, button));
        cell.append(button);
        shown.cells.push(() => {
          button.hidden = Boolean(action.hidden?.(shown.row));
          setText(button, action.name(shown.row));
          button.setAttribute("aria-label", action.title(shown.row));
        });
      }
      if (column.value) shown.cells.push(() => setText(cell, String(column.value(shown.row))));
      shown.element.append(cell);
    }
    return shown;
  }

  #fill(shown) {
    for (const fill of shown.cells) fill();
  }
}

const kind = (column) => (column.number ? "number" : "");
