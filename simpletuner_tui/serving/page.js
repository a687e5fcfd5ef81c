// What textual-serve's own page leaves open: where the websocket is behind a tunnel, and who has the keyboard.
"use strict";

history.replaceState(null, "", location.pathname); // the token is in the cookie by now

document.addEventListener("DOMContentLoaded", () => {
  const terminal = document.getElementById("terminal");
  // A tunnel may lead here from any port, so the page's own address counts.
  terminal.dataset.sessionWebsocketUrl = location.origin.replace(/^http/, "ws") + "/ws";
  document.querySelector("#ended button").addEventListener("click", () => location.reload());
  const drawn = new MutationObserver(() => {
    if (document.body.classList.contains("-first-byte")) {
      drawn.disconnect();
      terminal.querySelector("textarea").focus(); // the app believes itself blurred until then
    }
  });
  drawn.observe(document.body, { attributeFilter: ["class"] });
});
