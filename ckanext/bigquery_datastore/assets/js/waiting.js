/* Asks how far an export is, shows it, and starts the download once the file is there. */
ckan.module("bigquery-datastore-waiting", function ($) {
  "use strict";

  var PAUSE_MS = 1000;

  return {
    options: {
      statusUrl: "",
      downloadUrl: "",
      pauseSeconds: 0,
      readyText: "",
      failedText: "",
      elapsedText: ""
    },

    initialize: function () {
      $.proxyAll(this, /_on|_ask/);
      this.bar = this.el[0].querySelector("progress");
      this.message = this.el[0].querySelector("[role=status]");
      window.setTimeout(this._ask, this.options.pauseSeconds * 1000);
    },

    _ask: function () {
      fetch(this.options.statusUrl, { credentials: "same-origin" })
        .then(function (response) {
          return response.json();
        })
        .then(this._onState)
        .catch(this._onLost);
    },

    _onState: function (found) {
      if (found.state === "ready") {
        this.bar.value = 1;
        this._say(this.options.readyText);
        window.location.assign(this.options.downloadUrl);
      } else if (found.state === "failed") {
        this.bar.remove();
        this._say(this.options.failedText + " " + (found.message || ""));
      } else {
        this._onRunning(found);
      }
    },

    _onRunning: function (found) {
      if (found.progress !== null) {
        this.bar.value = found.progress;
      }
      this._say(this.options.elapsedText.replace("{seconds}", Math.round(found.seconds)));
      window.setTimeout(this._ask, PAUSE_MS);
    },

    /* The site or the network was away for a moment: the export goes on without us. */
    _onLost: function () {
      window.setTimeout(this._ask, PAUSE_MS * 5);
    },

    _say: function (text) {
      if (this.message.textContent !== text) {
        this.message.textContent = text;
      }
    }
  };
});
