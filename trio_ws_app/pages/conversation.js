// One conversation of the page with rooms: its log, its messages in groups, and how many are unread.

import { make, messageItem, openLog, timeOf } from "./log.js";

const GROUPED = 5 * 60; // seconds within which the messages of one person are one group

export function openConversation(title, label, emptyText) {
  const element = document.getElementById("log").content.firstElementChild.cloneNode(true);
  element.setAttribute("aria-label", label);
  if (emptyText) element.querySelector(".first").textContent = emptyText;
  const log = openLog(element);
  let last = {}; // the newest entry: its author and time; a notice has no author

  return {
    title,
    element,
    unread: 0,

    notice(text) {
      last = {};
      log.append(make("li", "notice", text));
    },

    // A message that the user with this id and name has sent, at a time in seconds since 1970.
    message({ user, name, mine, text, at }) {
      const follows = user === last.user && at - last.at < GROUPED;
      last = { user, at };
      log.append(messageItem({ name, mine, follows, time: timeOf(new Date(at * 1000)), text }));
    },
  };
}
