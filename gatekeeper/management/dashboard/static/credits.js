// Credits: what users were granted and have left, and what is owed on a chain.

import { get, list } from "./api.js";
import * as format from "./format.js";
import { Section } from "./section.js";
import { Table } from "./table.js";

const STATES = {
  pending: "waits to be burned",
  claimed: "is being burned",
  uncollected: "uncollected: the payer has not enough",
  error: "in error: the contract refuses",
};

export class Credits {
  #section = new Section("credits");
  #accounts = new Table({
    caption: "What users were granted, and have left of it",
    columns: [
      { title: "User", value: (row) => row.user },
      { title: "Pool", value: (row) => row.pool },
      { title: "Granted", number: true, value: (row) => format.count(row.granted) },
      { title: "Spent", number: true, value: (row) => format.count(row.spent) },
      { title: "Left", number: true, value: (row) => format.count(row.left) },
    ],
    key: (row) => `${row.pool}/${row.user}`,
    empty: "Nobody was granted any credits.",
  });
  #owed = new Table({
    caption: "What is owed on the chain",
    columns: [
      { title: "State", value: (row) => STATES[row.state] ?? row.state },
      { title: "Credits", number: true, value: (row) => format.count(row.credits) },
      { title: "Charges", number: true, value: (row) => format.count(row.charges) },
      { title: "Oldest", value: (row) => (row.since ? format.time(row.since) : "none") },
    ],
    key: (row) => row.state,
    empty: "Nothing is owed on a chain.",
  });

  constructor() {
    this.#section.content.append(this.#accounts.element, this.#owed.element);
  }

  async update() {
    await this.#section.fill(async () => {
      const [{ items, more }, owed] = await Promise.all([
        list("v1/credits/accounts"), get("v1/credits/owed"),
      ]);
      this.#accounts.update(items, more);
      this.#owed.update(owed.items);
    });
  }
}
