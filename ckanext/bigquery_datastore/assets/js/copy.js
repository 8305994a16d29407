/* Copies the lines before a button. The window that holds them comes later than this script. */
document.addEventListener("click", function (event) {
  "use strict";

  var button = event.target.closest("[data-bigquery-datastore-copied]");
  if (!button) {
    return;
  }
  var lines = button.previousElementSibling;
  var selection = window.getSelection();
  selection.selectAllChildren(lines);
  /* Where a page may not write to the clipboard, the lines are selected at least. */
  if (navigator.clipboard) {
    navigator.clipboard.writeText(lines.textContent).then(
      function () {
        button.textContent = button.getAttribute("data-bigquery-datastore-copied");
      },
      function () {}
    );
  }
});
