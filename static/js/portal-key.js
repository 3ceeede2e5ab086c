// The answer that shows a new key came by POST. A reload must ask for the page, not make another key.
const address = document.querySelector(".tabs a[aria-current]");
if (address) history.replaceState(null, "", address.getAttribute("href"));
