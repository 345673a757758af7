// A section of the page: loading, here, or in trouble. Told in words each time.

import { ApiError } from "./api.js";
import { byId, make, say, setText } from "./dom.js";

export class Section {
  #loading;
  #problem;

  constructor(id) {
    this.element = byId(id);
    this.content = make("div", { className: "content", hidden: true });
    this.#loading = make("div", { className: "loading" }, make("progress", { "aria-label": "Loading" }));
    this.#problem = make("p", { className: "problem", hidden: true });
    this.element.append(this.#problem, this.#loading, this.content);
  }

  /** Run `load`, which fills the section. What is shown stays where that fails. */
  async fill(load) {
    try {
      await load();
      this.#problem.hidden = true;
      this.content.hidden = false;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.#problem.hidden = false;
      setText(this.#problem, `${error.message} It is tried again.`);
    }
    this.#loading.hidden = true;
  }
}

/** Do what somebody has asked for, and say what came in its way: whether it was done. */
export async function attempt(work) {
  try {
    await work();
    return true;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    say(`That was not done. ${error.message}`);
    return false;
  }
}
