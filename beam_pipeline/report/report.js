"use strict";
// The gallery's filters, phrases and cues that point at each other, and the section that is being read.
(() => {
  const form = document.querySelector(".filters");
  const clips = [...document.querySelectorAll("article.clip")];
  const said = clips.map((clip) => clip.textContent.toLowerCase().replace(/\s+/g, " "));

  function filter() {
    const { end, reason, split, source, text, again } = form.elements;
    const chosen = [["end", end], ["reason", reason], ["split", split], ["source", source]].filter(([, field]) => field && field.value);
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    clips.forEach((clip, place) => {
      const shown = chosen.every(([name, field]) => clip.dataset[name] === field.value)
        && (!again?.checked || "again" in clip.dataset)
        && words.every((word) => said[place].includes(word));
      clip.parentElement.hidden = !shown;
      if (!shown) clip.querySelectorAll("audio").forEach((player) => player.pause());
      count += shown;
    });
    const all = `${clips.length} ${clips.length === 1 ? "clip" : "clips"}`;
    form.elements.count.value = count === clips.length ? all : `${count} of ${all}`;
    form.querySelector("[type=reset]").hidden = !(chosen.length || words.length || again?.checked);
    document.getElementById("none").hidden = count > 0;
  }

  if (form) {
    form.addEventListener("input", filter);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(filter)); // once the fields are empty
    filter(); // a browser may have kept what was chosen before a reload
  }

  // A phrase, or a cue that phrases rest on: whichever is pointed at, focused or pressed lights up what it is linked to.
  const LINKED = ".phrase[data-links], .cue:has(button)";
  let pressed = null;
  let pointed = null;
  let lit = [];

  function light() {
    lit.forEach((one) => one.classList.remove("on"));
    const from = pointed || pressed;
    lit = from ? [from, ...from.dataset.links.split(" ").filter(Boolean).map((id) => document.getElementById(id)).filter(Boolean)] : [];
    lit.forEach((one) => one.classList.add("on"));
  }

  function press(one) {
    const button = (linked) => linked.querySelector("button.name") || linked;
    if (pressed) button(pressed).setAttribute("aria-pressed", "false");
    pressed = one === pressed ? null : one;
    if (pressed) button(pressed).setAttribute("aria-pressed", "true");
    pointed = pressed ? null : pointed;
    light();
  }

  const linked = (event) => (event.target instanceof Element ? event.target.closest(LINKED) : null);
  function point(one) {
    if (one === pointed) return;
    pointed = one;
    light();
  }
  document.addEventListener("pointerover", (event) => event.pointerType === "mouse" && point(linked(event)));
  document.addEventListener("focusin", (event) => point(linked(event)));
  document.addEventListener("focusout", () => point(null));
  document.addEventListener("click", (event) => {
    const one = linked(event);
    if (one) press(one);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && pressed) press(pressed);
    if ((event.key === "Enter" || event.key === " ") && event.target.matches(".phrase[data-links]")) {
      event.preventDefault();
      press(event.target);
    }
  });

  // One sound at a time.
  document.addEventListener("play", (event) => {
    document.querySelectorAll("audio").forEach((player) => player !== event.target && player.pause());
  }, true);

  // The section that is being read is the lowest one that begins in the upper third of the window.
  const links = [...document.querySelectorAll("nav a")];
  const parts = links.map((link) => document.getElementById(link.hash.slice(1)));
  let current = null;
  function follow() {
    const at = parts.findLastIndex((part) => part.getBoundingClientRect().top < innerHeight / 3);
    const link = links[Math.max(at, 0)];
    if (link === current) return;
    current?.removeAttribute("aria-current");
    link.setAttribute("aria-current", "true");
    const row = link.closest("ul");
    row.scrollTo({ left: link.offsetLeft - row.clientWidth / 2 });
    current = link;
  }
  let due = false;
  addEventListener("scroll", () => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => { due = false; follow(); });
  }, { passive: true });
  follow();
})();
