// Runs only in browsers without modules, so it uses no newer language features.
var oldBrowserStatus = document.getElementById("status");
if (oldBrowserStatus) {
  oldBrowserStatus.textContent = "This browser is too old. Use Chrome 93, Firefox 114, Safari 16.4 or newer.";
}
