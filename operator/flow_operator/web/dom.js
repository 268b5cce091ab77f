/**
 * Elements. What comes from flows (names, messages, logs) only ever becomes text: nothing here takes
 * markup.
 */

/**
 * An element with its attributes and children.
 * @param {string} tag
 * @param {Object<string, *>} attributes `onclick` and the like are listeners; null and false leave an
 *     attribute out
 * @param {...(Node|string|number|null)} children
 * @returns {HTMLElement}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) {
      element.addEventListener(name.slice(2), value);
    } else if (value !== null && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Set a text where it is another one: what somebody has marked with the mouse stays marked. */
export function setText(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

/** Set or take away an attribute where it is otherwise. */
export function setAttribute(element, name, value) {
  if (value === null) {
    element.removeAttribute(name);
  } else if (element.getAttribute(name) !== value) {
    element.setAttribute(name, value);
  }
}

/** Of the time, work takes a quarter at most. */
const REST = 3;

/** Calls that come within one frame are one call; more seldom ones, where the work takes long. */
export function perFrame(work) {
  let asked = false;
  let rested = 0;
  const draw = () => {
    asked = false;
    const begun = performance.now();
    work();
    rested = performance.now() + REST * (performance.now() - begun);
  };
  return () => {
    if (!asked) {
      asked = true;
      setTimeout(() => requestAnimationFrame(draw), Math.max(0, rested - performance.now()));
    }
  };
}
