// What the pages with a log share: a list that keeps its end in view, a box to write in, and the time.

// A log in an element that scrolls; its entries are in the list within. Its end stays in view whatever
// changes, unless the reader has scrolled back. At most so many entries are kept.
export function openLog(element, most = 500) {
  const list = element.querySelector("ol");
  let following = true;
  let top = 0; // where it was scrolled to

  function keepEnd() {
    if (following) element.scrollTop = element.scrollHeight;
    top = element.scrollTop;
  }

  // The end may be out of view only since the element has just become smaller: a reader scrolls back.
  element.addEventListener("scroll", () => {
    if (element.scrollHeight - element.scrollTop - element.clientHeight < 40) following = true;
    else if (element.scrollTop < top) following = false;
    top = element.scrollTop;
  });
  new ResizeObserver(keepEnd).observe(element);

  return {
    append(entry) {
      list.append(entry);
      while (list.children.length > most) list.firstElementChild.remove();
      keepEnd();
    },
  };
}

// A text area that grows with its text. Enter sends its form, Shift+Enter makes a new line.
export function writeIn(textarea) {
  textarea.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      textarea.form.requestSubmit();
    }
  });
  if (CSS.supports("field-sizing", "content")) return;
  const grow = () => {
    textarea.style.height = "auto";
    textarea.style.height = `${textarea.scrollHeight + 2}px`;
  };
  textarea.addEventListener("input", grow);
  textarea.form.addEventListener("submit", () => setTimeout(grow));
}

// An element of this kind, with a class and with text or elements in it.
export function make(tag, className, ...content) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...content);
  return element;
}

// One message of a conversation; one that follows another of the same person has no head of its own.
export function messageItem({ name, mine, follows, time, text }) {
  const item = make("li", `message${mine ? " mine" : ""}${follows ? " follows" : ""}`);
  const head = make("p", "head", make("b", mine || follows ? "visually-hidden" : "", mine ? "You" : name));
  if (time && !follows) head.append(" ", time);
  item.append(head, make("p", "bubble", text));
  return item;
}

// The time of day, to the minute; of another day with its date.
export function timeOf(moment) {
  const clock = moment.toLocaleTimeString([], { hour: "numeric", minute: "2-digit" });
  const isToday = moment.toDateString() === new Date().toDateString();
  const time = make("time", "", isToday ? clock : `${moment.toLocaleDateString()} ${clock}`);
  time.dateTime = moment.toISOString();
  return time;
}

export const timeNow = () => timeOf(new Date());

// A command to copy: lines break between its words, not at their hyphens.
export function showCommand(code, text) {
  code.replaceChildren(...text.split(" ").flatMap((word) => [make("span", "", word), " "]).slice(0, -1));
}
