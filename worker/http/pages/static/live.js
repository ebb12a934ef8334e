// Says when a page that keeps itself up to date has stopped doing so, and when it goes on.
(() => {
  "use strict";
  // For so long it says that it goes on.
  const AGAIN_MS = 10_000;
  const clock = () => `${new Date().toISOString().slice(11, 19)} UTC`;
  let last = clock();
  let stopped = false;
  let again = -Infinity;

  const say = (why, when) => {
    const note = document.getElementById("refreshing");
    const text = why ? note.dataset[why].replace("TIME", when) : "";
    if (note.textContent !== text) note.textContent = text;
  };
  const stop = (why) => {
    stopped = true;
    say(why, last);
  };

  document.addEventListener("htmx:error", (event) => {
    if (event.detail.ctx) stop("away");
  });
  document.addEventListener("htmx:after:request", (event) => {
    const { status } = event.detail.ctx.response;
    if (status >= 400) {
      stop(status === 401 || status === 403 ? "signedout" : "away");
      return;
    }
    last = clock();
    if (stopped) again = Date.now();
    if (stopped || Date.now() - again > AGAIN_MS) say(stopped ? "again" : "", last);
    stopped = false;
  });
})();
