import org.apache.solr.embedded.JettyConfig;
import org.apache.solr.embedded.JettySolrRunner;

/** Solr in one process: {@code java -cp 'lib/*' Start.java HOME PORT}. */
class Start {
    public static void main(String[] args) throws Exception {
        var jetty = JettyConfig.builder().setContext("/solr").setPort(Integer.parseInt(args[1])).stopAtShutdown(true);
        new JettySolrRunner(args[0], jetty.build()).start();
    }
}
