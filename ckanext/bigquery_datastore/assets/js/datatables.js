/* The download menu of the DataTables view, with all formats: the rows that the view has found. */
(function ($) {
  "use strict";

  var CORE = ["csv", "tsv", "json", "xml"];

  $(document).on("init.dt", function (event, settings) {
    var place = document.getElementById("bigquery-datastore-formats");
    var table = new $.fn.dataTable.Api(settings);
    var menu = table.buttons().nodes().toArray().findIndex(function (node) {
      return node.querySelector(".fa-download");
    });
    if (!place || menu < 0) {
      return;
    }
    JSON.parse(place.getAttribute("data-formats"))
      .filter(function (format) {
        return CORE.indexOf(format.name) < 0;
      })
      .forEach(function (format, index) {
        table.button().add(menu + "-" + (CORE.length + index), {
          text: $("<span>").text(format.title).html(),
          action: function () {
            var params = table.ajax.params();
            params.visible = table.columns().visible().toArray();
            run_query(params, format.name);
          }
        });
      });
  });
})(jQuery);
