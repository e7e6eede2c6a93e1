// A classic script has no import.meta; its own URL is known only while it is first executed.
export const scriptUrl = document.currentScript?.src || location.href;
