// The requests that run now, and their end.

import { call, list, path } from "./api.js";
import { confirm, say } from "./dom.js";
import * as format from "./format.js";
import { Section, attempt } from "./section.js";
import { Table } from "./table.js";

const MOST = 200;

export class Exchanges {
  #section = new Section("exchanges");
  #table = new Table({
    caption: "Requests that run now, tunnels among them",
    columns: [
      { title: "Request", value: (row) => `${row.method} ${row.path}` },
      { title: "Service", value: (row) => row.service || "(none)" },
      { title: "User", value: (row) => row.user || "(nobody)" },
      { title: "Client", value: (row) => row.client },
      { title: "Runs for", value: age, number: true },
      { title: "In", value: (row) => format.bytes(row.bytes_in), number: true },
      { title: "Out", value: (row) => format.bytes(row.bytes_out), number: true },
      { title: "Actions", actions: () => [{
        name: () => "Cut",
        title: (row) => `Cut ${row.method} ${row.path} of ${row.user || "nobody"}`,
        run: (row) => this.#cut(row),
      }] },
    ],
    key: (row) => row.id,
    empty: "No request runs now.",
  });

  constructor() {
    this.#section.content.append(this.#table.element);
  }

  async update() {
    await this.#section.fill(async () => {
      const { items, more } = await list("v1/exchanges", MOST);
      this.#table.update(items, more);
    });
  }

  async #cut(row) {
    const what = `${row.method} ${row.path} of ${row.user || "nobody"}`;
    if (!(await confirm(`Cut ${what}? The client sees a broken answer.`, "Cut it"))) return;
    await attempt(async () => {
      await call("DELETE", path`v1/exchanges/${row.id}`);
      say(`${what} was cut.`);
    });
    await this.update();
  }
}

const age = (row) => format.duration(Math.max(0, Math.round((Date.now() - Date.parse(row.start)) / 1000)));
