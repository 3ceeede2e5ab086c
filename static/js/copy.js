// Copy buttons: `data-copy` holds the text, or `data-copy-from` names the element beside the button that does.
const textOf = (button) =>
  button.dataset.copy ?? button.closest(".code").querySelector(button.dataset.copyFrom).textContent.trim();

document.addEventListener("click", async (event) => {
  const button = event.target.closest(".copy-button");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(textOf(button));
  } catch {
    return; // No permission or no secure context: the text stays there to be selected by hand.
  }
  const use = button.querySelector("use");
  const icon = use.getAttribute("href");
  if (!button.dataset.copied) use.setAttribute("href", icon.replace(/#.*/, "#check"));
  button.dataset.copied = "yes";
  setTimeout(() => {
    use.setAttribute("href", icon.replace(/#.*/, "#copy"));
    delete button.dataset.copied;
  }, 1500);
});
