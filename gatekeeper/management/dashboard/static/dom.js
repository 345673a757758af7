// Elements, made without any HTML in strings: what comes from elsewhere can only become text.

/** The element with an id of the page. */
export const byId = (id) => document.getElementById(id);

/** A new element: `properties` are its own ("textContent", "className"), those that it does not
 * have are attributes ("aria-label", "role"). Children are nodes or strings. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** A field with its label before it. */
export function labelled(text, field) {
  return make("span", {}, make("label", { htmlFor: field.id }, text), " ", field);
}

/** Change an element's text, if it is another one: what is selected stays so, else. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const SAID_FOR = 10_000; // milliseconds
let silence = 0;

/** Say something for a while, also to those who cannot see what has changed. */
export function say(text) {
  byId("said").textContent = text;
  clearTimeout(silence);
  silence = setTimeout(() => (byId("said").textContent = ""), SAID_FOR);
}

/** Ask before something is done that cannot be undone: whether to do it. */
export function confirm(question, deed) {
  const dialog = byId("confirm");
  byId("confirm-question").textContent = question;
  dialog.querySelector("[value=yes]").textContent = deed;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
