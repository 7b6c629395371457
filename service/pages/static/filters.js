// Sorting and filtering without loading the page anew: the address changes, and refresh.js shows what it says.
import { refresh } from "./refresh.js";

const PAUSE = 250; // ms after the last keystroke

export function goTo(address) {
  history.replaceState(null, "", address);
  return refresh();
}

export function watchFilters() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-address]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    goTo(link.href);
  });
  for (const form of document.querySelectorAll("form[data-filter]")) {
    let planned = null;
    const apply = () => {
      const address = new URL(location.href);
      for (const page of ["before", "cursor"]) address.searchParams.delete(page); // other entries have other pages
      for (const control of form.elements) if (control.name && control.type !== "hidden") address.searchParams.delete(control.name);
      for (const [name, value] of new FormData(form)) {
        if (value && form.elements[name].type !== "hidden") address.searchParams.append(name, value);
      }
      goTo(address);
    };
    form.addEventListener("input", (event) => {
      clearTimeout(planned);
      if (event.target.hasAttribute("data-reloads")) return location.assign(`?${event.target.name}=${encodeURIComponent(event.target.value)}`);
      planned = setTimeout(apply, PAUSE);
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      clearTimeout(planned);
      apply();
    });
  }
}
