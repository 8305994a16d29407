/* The menu of formats: what the table is like and how large its files are, once it is opened. */
ckan.module("bigquery-datastore-menu", function ($) {
  "use strict";

  return {
    options: {
      url: ""
    },

    initialize: function () {
      $.proxyAll(this, /_on/);
      if (this.el.is("details")) {
        this.el.on("toggle", this._onOpened);
        this.el.on("keydown", this._onKey);
        $(document).on("click focusin", this._onElsewhere);
      } else {
        this.el.closest(".dropdown").on("show.bs.dropdown", this._onOpened);
      }
      /* CKAN starts its modules when it has its translations: a quick visitor was here before. */
      if (this.el.is("[open], .dropdown-menu.show > li")) {
        this._onOpened();
      }
    },

    _onOpened: function () {
      if (!this.asked) {
        this.asked = fetch(this.options.url, { credentials: "same-origin" })
          .then(function (response) {
            return response.ok ? response.json() : Promise.reject(response.status);
          })
          .then(this._onAnswer)
          .catch(this._onNoAnswer);
      }
    },

    _onAnswer: function (found) {
      var el = this.el;
      el.find(".bigquery-datastore-summary").text(found.summary);
      found.formats.forEach(function (format) {
        el.find("[data-format]")
          .filter(function () {
            return this.getAttribute("data-format") === format.name;
          })
          .find(".bigquery-datastore-size")
          .text(format.size);
      });
    },

    /* A menu without sizes is a menu all the same; it asks again when it is opened anew. */
    _onNoAnswer: function () {
      this.asked = null;
    },

    _onKey: function (event) {
      if (event.key === "Escape" && this.el[0].open) {
        this.el[0].open = false;
        this.el.children("summary").trigger("focus");
      }
    },

    _onElsewhere: function (event) {
      if (!this.el[0].contains(event.target)) {
        this.el[0].open = false;
      }
    }
  };
});
