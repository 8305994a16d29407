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
      adviceText: "",
      againText: ""
    },

    initialize: function () {
      $.proxyAll(this, /_on|_ask/);
      this.bar = this.el[0].querySelector("progress");
      this.message = this.el[0].querySelector("[role=status]");
      this.time = this.el[0].querySelector(".bigquery-datastore-time");
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
        this._say(this.message, this.options.readyText);
        this._say(this.time, "");
        window.location.assign(this.options.downloadUrl);
      } else if (found.state === "failed") {
        this._onFailed(found);
      } else {
        this._onRunning(found);
      }
    },

    _onFailed: function (found) {
      this.bar.remove();
      this.el[0].querySelector(".bigquery-datastore-promise").remove();
      this._say(this.message, this.options.failedText + " " + (found.message || ""));
      this._say(this.time, this.options.adviceText);
      this._say(this.el[0].querySelector("a.btn"), this.options.againText);
    },

    _onRunning: function (found) {
      if (found.progress === null) {
        this.bar.removeAttribute("value");
      } else {
        this.bar.value = found.progress;
      }
      this._say(this.message, found.message);
      this._say(this.time, found.time);
      window.setTimeout(this._ask, PAUSE_MS);
    },

    /* The site or the network was away for a moment: the export goes on without us. */
    _onLost: function () {
      window.setTimeout(this._ask, PAUSE_MS * 5);
    },

    /* A screen reader says what changes: nothing is written anew that stays as it is. */
    _say: function (place, text) {
      if (place.textContent !== text) {
        place.textContent = text;
      }
    }
  };
});
