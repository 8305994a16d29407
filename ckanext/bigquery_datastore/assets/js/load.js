/* Asks how far a load is while it runs, and shows it in place of what the page said before. */
ckan.module("bigquery-datastore-load", function ($) {
  "use strict";

  return {
    options: {
      statusUrl: "",
      running: false,
      askSeconds: 2
    },

    initialize: function () {
      $.proxyAll(this, /_on|_ask/);
      this.said = this.el[0].querySelector("[role=status]");
      this.bar = this.el[0].querySelector("progress");
      this.details = this.el[0].querySelector("[data-load-details]");
      this.deleting = this.el[0].querySelector("[data-load-delete]");
      if (this.options.running) {
        this._again(1);
      }
    },

    _ask: function () {
      fetch(this.options.statusUrl, { credentials: "same-origin" })
        .then(function (response) {
          if (!response.ok) {
            throw new Error(response.statusText);
          }
          return response.json();
        })
        .then(this._onState)
        .catch(this._onLost);
    },

    _onState: function (load) {
      /* What is said is read aloud: only when it is something new. */
      if (this.said.textContent !== load.said) {
        this.said.textContent = load.said;
      }
      this.bar.hidden = !load.running;
      if (load.progress === null) {
        this.bar.removeAttribute("value");
      } else {
        this.bar.value = load.progress;
      }
      /* The server's own words, escaped there. */
      this.details.innerHTML = load.html;
      this.deleting.hidden = !load.datastore_active;
      if (load.running) {
        this._again(1);
      }
    },

    /* The site or the network was away for a moment: the load goes on without us. */
    _onLost: function () {
      this._again(5);
    },

    _again: function (times) {
      window.setTimeout(this._ask, this.options.askSeconds * 1000 * times);
    }
  };
});
