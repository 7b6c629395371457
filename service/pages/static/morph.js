// Makes one element equal to another by changing only what differs, so that focus, selection and scrolling stay.

const keyOf = (node) => node.id || null;

export function morph(from, to) {
  const focused = document.activeElement;
  morphElement(from, to);
  if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true }); // it was moved
}

function morphElement(from, to) {
  if (from.hasAttribute("data-keep") || from.isEqualNode(to)) return;
  morphAttributes(from, to);
  const byKey = new Map([...from.children].filter(keyOf).map((child) => [keyOf(child), child]));
  let place = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    const match = keyOf(wanted) ? byKey.get(keyOf(wanted)) : sameKind(place, wanted) ? place : null;
    if (!match || match.nodeName !== wanted.nodeName) {
      from.insertBefore(document.importNode(wanted, true), place);
      continue;
    }
    if (match === place) place = place.nextSibling;
    else from.insertBefore(match, place);
    if (match.nodeType === Node.ELEMENT_NODE) morphElement(match, wanted);
    else if (match.nodeValue !== wanted.nodeValue) match.nodeValue = wanted.nodeValue;
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

function sameKind(node, other) {
  return node !== null && node.nodeName === other.nodeName && !keyOf(node);
}

function morphAttributes(from, to) {
  for (const { name, value } of [...to.attributes]) if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  // What a user has opened stays open.
  for (const { name } of [...from.attributes]) if (name !== "open" && !to.hasAttribute(name)) from.removeAttribute(name);
}
