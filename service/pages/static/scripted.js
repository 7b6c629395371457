// Buttons that only a script can work are marked data-scripted, and come disabled: a click before the page's script runs
// would do nothing. A page's script enables them once it listens.

export function enableButtons(page = document) {
  for (const button of page.querySelectorAll("button[data-scripted]")) button.disabled = false;
}
