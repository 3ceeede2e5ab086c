// The answer that shows a key came by POST. Give the page its own address, so that a reload asks for it without the key.
const page = document.querySelector("[data-start]");
if (page && document.querySelector("[data-key-once]")) history.replaceState(null, "", page.dataset.start);
