// Keys: who has them, and whether they count.

import { call, list, path } from "./api.js";
import { confirm, say } from "./dom.js";
import * as format from "./format.js";
import { Section, attempt } from "./section.js";
import { Table } from "./table.js";
import { state } from "./users.js";

export class Keys {
  #section = new Section("keys");
  #table = new Table({
    caption: "Keys that were made over the API or the command line",
    columns: [
      { title: "Key", value: (row) => row.id },
      { title: "Label", value: (row) => row.label || "none" },
      { title: "User", value: (row) => row.user },
      { title: "Service", value: (row) => row.service ?? "all" },
      { title: "State", value: state },
      { title: "Made", value: (row) => format.time(row.created) },
      { title: "Actions", actions: () => [
        {
          name: (row) => (row.disabled ? "Enable" : "Disable"),
          title: (row) => `${row.disabled ? "Enable" : "Disable"} the key ${row.id} of ${row.user}`,
          run: (row) => this.#disable(row, !row.disabled),
        },
        {
          name: () => "Revoke",
          title: (row) => `Revoke the key ${row.id} of ${row.user}`,
          run: (row) => this.#revoke(row),
        },
      ] },
    ],
    key: (row) => row.id,
    empty: "There is no key. Keys of a key file are not listed here.",
  });

  constructor() {
    this.#section.content.append(this.#table.element);
  }

  async update() {
    await this.#section.fill(async () => {
      const { items, more } = await list("v1/keys");
      this.#table.update(items, more);
    });
  }

  async #disable({ id }, disabled) {
    await attempt(async () => {
      await call("PATCH", path`v1/keys/${id}`, { disabled });
      say(`The key ${id} was ${disabled ? "disabled" : "enabled"}.`);
    });
    await this.update();
  }

  async #revoke({ id, user }) {
    if (!(await confirm(`Revoke the key ${id} of ${user} for good?`, "Revoke it"))) return;
    await attempt(async () => {
      await call("DELETE", path`v1/keys/${id}`);
      say(`The key ${id} was revoked.`);
    });
    await this.update();
  }
}
