#include "exporter/configuration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "exporter/duration.h"
#include "exporter/site_source.h"
#include "tests/support/scratch_folder.h"

namespace pangolin {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

class ConfigurationTest : public testing::Test {
  protected:
    Result<LoadedConfiguration> load(std::string_view text) {
        return load_configuration(folder.write("config.yml", text));
    }

    Configuration must_load(std::string_view text) {
        auto loaded = load(text);
        EXPECT_TRUE(loaded) << loaded.error().message();
        EXPECT_TRUE(loaded->configuration) << loaded->summary;
        return loaded->configuration.value();
    }

    ScratchFolder folder;
};

void expect_defaults(const Configuration& configuration) {
    EXPECT_THAT(configuration.listen, ElementsAre(ListenAddress{"0.0.0.0", 9464}));
    EXPECT_EQ(configuration.wireguard.netns, "auto");
    EXPECT_THAT(configuration.wireguard.interfaces, IsEmpty());
    EXPECT_EQ(configuration.wireguard.attach, HookMode::automatic);
    EXPECT_EQ(configuration.metadata.kind, MetadataKind::sqlite);
    EXPECT_EQ(configuration.metadata.refresh, 10s);
    EXPECT_EQ(configuration.metadata.site_label, SiteLabel::nice_id);
    EXPECT_TRUE(configuration.http.enabled);
    EXPECT_EQ(configuration.application.otlp.listen, (ListenAddress{"127.0.0.1", 4318}));
    EXPECT_EQ(configuration.limits.max_series, 200000U);
    EXPECT_EQ(configuration.limits.max_peers, 16384U);
    EXPECT_EQ(configuration.limits.max_targets, 65536U);
    EXPECT_EQ(configuration.state_dir, "/var/lib/pangolin_exporter");
    EXPECT_EQ(configuration.pin_dir, "/sys/fs/bpf/pangolin_exporter");
    EXPECT_TRUE(configuration.confine);
    EXPECT_EQ(configuration.pangolin.internal_port, 3001);
}

TEST_F(ConfigurationTest, AnEmptySectionMeansTheDefaults) {
    for (const char* text : {"metrics:\n", "metrics: {}\n", "metrics:\n  enabled: true\n", "metrics: ~\n"}) {
        SCOPED_TRACE(text);
        const Configuration configuration = must_load(text);
        expect_defaults(configuration);
        EXPECT_EQ(configuration.metadata.sqlite, folder.path("db/db.sqlite"));
        EXPECT_EQ(configuration.traefik.acme, folder.path("letsencrypt/acme.json"));
    }
}

TEST_F(ConfigurationTest, ReadsEveryKey) {
    const auto loaded = load(R"(
app: { dashboard_url: "https://example.com" }
server: { external_port: 4000, internal_port: "4001", next_port: nonsense, integration_port: 70000 }
postgres: { connection_string: "postgresql://pangolin:secret@postgres/pangolin" }
metrics:
  enabled: true
  port: 9500
  listen: [127.0.0.1, "[::1]:9501", localhost]
  wireguard: { netns: "container:gerbil", interfaces: [wg0, wg1], attach: clsact, handshakes: underlay }
  metadata:
    sqlite: data/my db.sqlite
    postgres: ""
    sites_file: ""
    refresh: 1m30s
    site_label: siteId
  http: { enabled: false, cgroups: [/system.slice] }
  traefik: { acme: /etc/acme.json, api: "http://127.0.0.1:8080", access_log: logs/access.log }
  application:
    otlp: { enabled: false, listen: "0.0.0.0:4400", token_file: token, max_age: 90s }
    scrape:
      - { name: gerbil, url: "http://127.0.0.1:3004/metrics", netns: "container:gerbil", interval: 30s, labels: program=gerbil }
    prefer: [pangolin_tunnel_up]
  limits: { max_series: 1000, max_peers: 10, max_targets: "20" }
  state_dir: /run/state
  pin_dir: ''
  confine: false
)");
    ASSERT_TRUE(loaded) << loaded.error().message();
    const Configuration& configuration = loaded->configuration.value();
    EXPECT_THAT(configuration.listen,
                ElementsAre(ListenAddress{"127.0.0.1", 9500}, ListenAddress{"::1", 9501},
                            ListenAddress{"localhost", 9500}));
    EXPECT_EQ(configuration.wireguard.netns, "container:gerbil");
    EXPECT_THAT(configuration.wireguard.interfaces, ElementsAre("wg0", "wg1"));
    EXPECT_EQ(configuration.wireguard.attach, HookMode::clsact);
    EXPECT_EQ(configuration.wireguard.handshakes, HandshakeMode::underlay);
    EXPECT_EQ(configuration.metadata.kind, MetadataKind::sqlite);
    EXPECT_EQ(configuration.metadata.sqlite, folder.path("data/my db.sqlite"));
    EXPECT_EQ(configuration.metadata.refresh, 90s);
    EXPECT_EQ(configuration.metadata.site_label, SiteLabel::site_id);
    EXPECT_FALSE(configuration.http.enabled);
    EXPECT_THAT(configuration.http.cgroups, ElementsAre("/system.slice"));
    EXPECT_EQ(configuration.traefik.acme, "/etc/acme.json");
    EXPECT_EQ(configuration.traefik.api, "http://127.0.0.1:8080");
    EXPECT_EQ(configuration.traefik.access_log, folder.path("logs/access.log"));
    EXPECT_FALSE(configuration.application.otlp.enabled);
    EXPECT_EQ(configuration.application.otlp.listen, (ListenAddress{"0.0.0.0", 4400}));
    EXPECT_EQ(configuration.application.otlp.token_file, folder.path("token"));
    EXPECT_EQ(configuration.application.otlp.max_age, 90s);
    EXPECT_THAT(configuration.application.prefer, ElementsAre("pangolin_tunnel_up"));
    ASSERT_EQ(configuration.application.scrape.size(), 1U);
    EXPECT_EQ(configuration.application.scrape[0].name, "gerbil");
    EXPECT_EQ(configuration.application.scrape[0].netns, "container:gerbil");
    EXPECT_EQ(configuration.application.scrape[0].interval, 30s);
    EXPECT_EQ(configuration.application.scrape[0].labels, (Labels{{"program", "gerbil"}}));
    EXPECT_EQ(configuration.limits.max_series, 1000U);
    EXPECT_EQ(configuration.limits.max_peers, 10U);
    EXPECT_EQ(configuration.limits.max_targets, 20U);
    EXPECT_EQ(configuration.state_dir, "/run/state");
    EXPECT_EQ(configuration.pin_dir, "");
    EXPECT_FALSE(configuration.confine);
    // Pangolin's own settings; what makes no sense there is Pangolin's business.
    EXPECT_EQ(configuration.pangolin.external_port, 4000);
    EXPECT_EQ(configuration.pangolin.internal_port, 4001);
    EXPECT_EQ(configuration.pangolin.next_port, 3002);
    EXPECT_EQ(configuration.pangolin.integration_port, 3003);
    EXPECT_EQ(configuration.metadata.postgres, "postgresql://pangolin:secret@postgres/pangolin");
    EXPECT_EQ(loaded->summary, "configuration read from " + folder.path("config.yml"));
}

TEST_F(ConfigurationTest, SwitchedOff) {
    struct Row {
        const char* text;
        const char* why;
    };
    const Row rows[] = {
        {"", "has no section 'metrics'"},
        {"# nothing\n", "has no section 'metrics'"},
        {"app: { log_level: info }\nserver: [odd]\n", "has no section 'metrics'"},
        {"metrics: { enabled: false }\n", "metrics.enabled is false"},
        {"metrics: { enabled: False, port: 1 }\n", "metrics.enabled is false"},
        {"metrics: { enabled: no }\n", "metrics.enabled is false"},
    };
    for (const Row& row : rows) {
        SCOPED_TRACE(row.text);
        const auto loaded = load(row.text);
        ASSERT_TRUE(loaded) << loaded.error().message();
        EXPECT_FALSE(loaded->configuration);
        EXPECT_THAT(loaded->summary, AllOf(StartsWith("metrics are switched off: "), HasSubstr(row.why),
                                           HasSubstr(folder.path("config.yml"))));
    }
}

TEST_F(ConfigurationTest, WhichSourceOfSites) {
    struct Row {
        const char* text;
        MetadataKind kind;
        std::string_view source;
    };
    const std::string pangolins = "postgres: { connection_string: 'postgresql://p:secret@h/d' }\n";
    const Row rows[] = {
        {"metrics: {}", MetadataKind::sqlite, "sqlite"},
        {"metrics: { metadata: { sqlite: a.sqlite } }", MetadataKind::sqlite, "sqlite"},
        {"metrics: { metadata: { sqlite: a.sqlite, sites_file: sites.yml } }", MetadataKind::sites_file,
         "sites_file"},
        {"metrics: { metadata: { postgres: 'postgresql://h/d' } }", MetadataKind::postgres, "postgres"},
        {"metrics: { traefik: { api: 'http://h' } }", MetadataKind::traefik, "traefik"},
        {"metrics: { traefik: { api: 'http://h' }, metadata: { sqlite: a } }", MetadataKind::sqlite,
         "sqlite"},
        {"metrics: { traefik: { api: 'http://h' }, metadata: { sites_file: a } }", MetadataKind::sites_file,
         "sites_file"},
        {"metrics: { traefik: { api: 'http://h' }, metadata: { postgres: 'postgresql://h/d' } }",
         MetadataKind::postgres, "postgres"},
    };
    for (const Row& row : rows) {
        SCOPED_TRACE(row.text);
        const Configuration configuration = must_load(row.text);
        EXPECT_EQ(configuration.metadata.kind, row.kind);
        EXPECT_EQ(make_site_source(configuration.metadata, configuration.traefik)->name(), row.source);
    }
    EXPECT_EQ(must_load(pangolins + "metrics: {}").metadata.kind, MetadataKind::postgres);
    EXPECT_EQ(must_load(pangolins + "metrics: { metadata: { sqlite: a } }").metadata.kind,
              MetadataKind::sqlite);
    EXPECT_EQ(must_load(pangolins + "metrics: { metadata: { sites_file: a } }").metadata.kind,
              MetadataKind::sites_file);
    const std::string nobody = "postgres: { connection_string: 'postgresql://p:secret@127.0.0.1:1/d' }\n";
    const auto directory = make_site_source(must_load(nobody + "metrics: {}").metadata, {})->read();
    ASSERT_FALSE(directory);
    EXPECT_THAT(directory.error().message(), AllOf(HasSubstr("HINT"), testing::Not(HasSubstr("secret"))));
}

TEST_F(ConfigurationTest, TheDatabaseThatIsThereGoesBeforeTraefik) {
    folder.write("db/db.sqlite", "");
    EXPECT_EQ(must_load("metrics: { traefik: { api: 'http://h' } }").metadata.kind, MetadataKind::sqlite);
}

TEST_F(ConfigurationTest, TheEnvironmentsConnectionStringIsPangolins) {
    ASSERT_EQ(setenv("POSTGRES_CONNECTION_STRING", "postgresql://environment/d", 1), 0);
    const std::string pangolins = "postgres: { connection_string: 'postgresql://file/d' }\n";
    const auto of = [&](const std::string& text) { return must_load(text).metadata; };
    EXPECT_EQ(of("metrics: {}").kind, MetadataKind::postgres);
    EXPECT_EQ(of("metrics: {}").postgres, "postgresql://environment/d");
    EXPECT_EQ(of(pangolins + "metrics: {}").postgres, "postgresql://environment/d");
    EXPECT_EQ(of("metrics: { metadata: { postgres: 'postgresql://ours/d' } }").postgres,
              "postgresql://ours/d");
    EXPECT_EQ(of("metrics: { metadata: { sqlite: a } }").kind, MetadataKind::sqlite);
    const auto without_file = load_configuration(std::nullopt, {folder.path("none/config.yml")});
    EXPECT_EQ(without_file->configuration->metadata.kind, MetadataKind::postgres);
    ASSERT_EQ(setenv("POSTGRES_CONNECTION_STRING", "", 1), 0);
    EXPECT_EQ(of(pangolins + "metrics: {}").postgres, "postgresql://file/d");
    EXPECT_EQ(of("metrics: {}").kind, MetadataKind::sqlite);
    unsetenv("POSTGRES_CONNECTION_STRING");
    EXPECT_EQ(of(pangolins + "metrics: {}").postgres, "postgresql://file/d");
}

struct BadValue {
    // Below "metrics:", which is line 1.
    const char* text;
    const char* place;
    const char* what;
    const char* hint;
};

const BadValue bad_values[] = {
    {"  prot: 1", "2:3", "unknown key 'prot' under metrics", "Did you mean 'port'?"},
    {"  enable: false", "2:3", "unknown key 'enable' under metrics", "Did you mean 'enabled'?"},
    {"  xyzzy: 1", "2:3", "unknown key 'xyzzy' under metrics", "Valid keys are enabled, port, listen"},
    {"  port: 1\n  port: 2", "3:3", "key 'port' under metrics is written twice", "Keep one"},
    {"  [a]: 1", "2:3", "a key under metrics is a list", "single words"},
    {"  <<: {port: 1}", "2:3", "unknown key '<<'", "Valid keys"},
    {"  port: abc", "2:9", "metrics.port: expected a whole number from 1 to 65535, found 'abc'", "port: 1"},
    {"  port: 0", "2:9", "found '0'", "digits"},
    {"  port: 65536", "2:9", "found '65536'", "digits"},
    {"  port: -1", "2:9", "found '-1'", "digits"},
    {"  port: 9464.5", "2:9", "found '9464.5'", "digits"},
    {"  port: 0x24f8", "2:9", "found '0x24f8'", "digits"},
    {"  port: 99999999999999999999", "2:9", "found '99999999999999999999'", "digits"},
    {"  port: [9464]", "2:9", "found a list", "digits"},
    {"  port: ''", "2:9", "found ''", "digits"},
    {"  enabled: maybe", "2:12", "metrics.enabled: expected true or false, found 'maybe'", "true"},
    {"  enabled: 1", "2:12", "found '1'", "true"},
    {"  enabled: [true]", "2:12", "found a list", "true"},
    {"  listen: 1.2.3", "2:11", "'1.2.3' is neither an IP address nor a host name", "HOST:PORT"},
    {"  listen: [127.0.0.1, 'bad host']", "2:23", "'bad host' is neither", "HOST:PORT"},
    {"  listen: [127.0.0.1, 127.0.0.1]", "2:23", "is written twice", "Remove"},
    {"  listen: 127.0.0.1:0", "2:11", "has port 0", "1 to 65535"},
    {"  listen: {a: b}", "2:11", "expected a text or a list of texts, found a mapping", "[ONE, OTHER]"},
    {"  wireguard: wg0", "2:14", "metrics.wireguard: expected keys and values, found 'wg0'", "key: value"},
    {"  wireguard: {netns: ''}", "2:22", "names no network namespace", "auto, host"},
    {"  wireguard: {netns: 'pid:x'}", "2:22", "'pid:x' is no process", "pid:NUMBER"},
    {"  wireguard: {netns: 'pid:0'}", "2:22", "'pid:0' is no process", "pid:NUMBER"},
    {"  wireguard: {netns: 'container:'}", "2:22", "names no network namespace", "container:NAME"},
    {"  wireguard: {attach: xdp}", "2:23", "unknown value 'xdp'", "auto, tcx, clsact"},
    {"  wireguard: {handshakes: modul}", "2:27", "unknown value 'modul'", "Did you mean 'module'?"},
    {"  wireguard: {attach: tcxx}", "2:23", "unknown value 'tcxx'", "Did you mean 'tcx'?"},
    {"  wireguard: {interfaces: [wg0, sixteen-letters-]}", "2:33", "'sixteen-letters-' is no interface name",
     "15"},
    {"  wireguard: {interfaces: 'a/b'}", "2:27", "'a/b' is no interface name", "15"},
    {"  wireguard: {interface: wg0}", "2:15", "unknown key 'interface' under metrics.wireguard",
     "'interfaces'"},
    {"  metadata: {refresh: 10}", "2:23", "metrics.metadata.refresh: '10' is not a duration", "500ms, 10s"},
    {"  metadata: {refresh: 500ms}", "2:23", "'500ms' is out of range", "from 1s to 1h"},
    {"  metadata: {refresh: 2h}", "2:23", "out of range", "from 1s to 1h"},
    {"  metadata: {refresh: -5s}", "2:23", "not a duration", "10s"},
    {"  metadata: {site_label: niceid}", "2:26", "unknown value 'niceid'", "Did you mean 'niceId'?"},
    {"  metadata: {sqlite: [a]}", "2:22", "expected a text, found a list", "sqlite: VALUE"},
    {"  http: {enabled: 7}", "2:19", "expected true or false", "true"},
    {"  http: {cgroups: ['']}", "2:20", "an entry is empty", "cgroup-v2"},
    {"  traefik: {api: 'localhost:8080'}", "2:18", "'localhost:8080' is not a URL", "http://"},
    {"  application: {otlp: {listen: 'x:y'}}", "2:32", "the port is not a number", "HOST:PORT"},
    {"  application: {otlp: {listen: ':0'}}", "2:32", "has port 0", "1 to 65535"},
    {"  application: {otlp: {max_age: 1s}}", "2:33", "out of range", "10s"},
    {"  application: {prefer: [pangolin_tunel_up]}", "2:26", "'pangolin_tunel_up' is no family",
     "Did you mean 'pangolin_tunnel_up'?"},
    {"  application: {prefer: pangolin_exporter_build_info}", "2:25", "is no family", "catalog"},
    {"  application: {otpl: {}}", "2:17", "unknown key 'otpl'", "Did you mean 'otlp'?"},
    {"  application: {scrape: [{url: 'http://a/'}]}", "2:26",
     "metrics.application.scrape[0]: 'name' is missing", "gerbil"},
    {"  application: {scrape: [{name: a}]}", "2:26", "'url' is missing", "3004"},
    {"  application: {scrape: [{name: a, url: 'ftp://a/'}]}", "2:41", "is not the URL", "http://"},
    {"  application: {scrape: [{name: a, url: 'https://a/'}]}", "2:41", "is not the URL", "http://"},
    {"  application: {scrape: [{name: a, url: 'http://a/', netns: auto}]}", "2:61",
     "is not one network namespace", "container:NAME"},
    {"  application: {scrape: [{name: a, url: 'http://a/', labels: ['1=b']}]}", "2:63", "is no label",
     "program=gerbil"},
    {"  application: {scrape: [{name: a, url: 'http://a/', labels: ['a=b', 'a=c']}]}", "2:70",
     "is written twice", "Remove one"},
    {"  application: {scrape: [{name: a, url: 'http://a/', interval: 1ms}]}", "2:64", "", ""},
    {"  application: {scrape: [{name: a, url: 'http://a/'}, {name: a, url: 'http://b/'}]}", "2:62",
     "'a' is written twice", "name of its own"},
    {"  limits: {max_series: 0}", "2:24", "from 1 to 10000000, found '0'", "digits"},
    {"  limits: {max_peers: 9999999}", "2:23", "from 1 to 1048576", "digits"},
    {"  limits: {max_target: 1}", "2:12", "unknown key 'max_target'", "Did you mean 'max_targets'?"},
    {"  state_dir: var/lib", "2:14", "'var/lib' is not an absolute path", "'/'"},
    {"  pin_dir: pins", "2:12", "'pins' is not an absolute path", "'/'"},
    {"  state_dir: ''", "2:14", "'' is not an absolute path", "'/'"},
    {"  a: b: c", "2:7", "not valid YAML", "indentation"},
    {"  port: [1", "3:1", "not valid YAML", "indentation"},
};

TEST_F(ConfigurationTest, MistakesHaveTheirPlaceAndAHint) {
    for (const BadValue& row : bad_values) {
        SCOPED_TRACE(row.text);
        const auto loaded = load("metrics:\n" + std::string(row.text) + "\n");
        ASSERT_FALSE(loaded);
        const Error& error = loaded.error();
        EXPECT_THAT(error.what, AllOf(StartsWith(folder.path("config.yml") + ":" + row.place + ": "),
                                      HasSubstr(row.what)));
        EXPECT_THAT(error.hint, AllOf(HasSubstr(row.hint), EndsWith(".")));
        EXPECT_EQ(error.message().find('\n'), std::string::npos);
    }
}

TEST_F(ConfigurationTest, FilesOfAnotherForm) {
    EXPECT_THAT(load("- a\n").error().what, HasSubstr(":1:1: expected keys and values, found a list"));
    EXPECT_THAT(load("metrics: yes\n").error().what,
                HasSubstr(":1:10: metrics: expected keys and values, found 'yes'"));
    EXPECT_THAT(load("metrics: [port]\n").error().what,
                HasSubstr(":1:10: metrics: expected keys and values, found a list"));
    // A mistake counts where metrics are switched off, too.
    EXPECT_THAT(load("metrics: {enabled: false, prot: 1}\n").error().what, HasSubstr("unknown key 'prot'"));
    EXPECT_THAT(load(std::string_view("\0\1\2", 3)).error().message(), HasSubstr("HINT"));
}

TEST_F(ConfigurationTest, TheNamedFileMustExist) {
    const auto loaded = load_configuration(folder.path("absent.yml"), {});
    ASSERT_FALSE(loaded);
    EXPECT_THAT(loaded.error().message(), AllOf(HasSubstr("absent.yml: No such file"), HasSubstr("HINT")));
    EXPECT_THAT(load_configuration(folder.path("")).error().message(), HasSubstr("Is a directory"));
}

TEST_F(ConfigurationTest, TheFirstFileOfTheSearchIsTaken) {
    const std::vector<std::string> search{folder.path("config/config.yml"), folder.path("config.yml"),
                                          folder.path("opt/config.yml")};
    const auto none = load_configuration(std::nullopt, search);
    ASSERT_TRUE(none) << none.error().message();
    expect_defaults(none->configuration.value());
    EXPECT_EQ(none->configuration->metadata.sqlite, folder.path("opt/db/db.sqlite"));
    EXPECT_THAT(none->summary,
                AllOf(HasSubstr("no configuration file"), HasSubstr(search[0]), HasSubstr(search[2])));
    folder.write("config/db/db.sqlite", "");
    EXPECT_EQ(load_configuration(std::nullopt, search)->configuration->metadata.sqlite,
              folder.path("config/db/db.sqlite"));

    folder.write("opt/config.yml", "metrics: {port: 3}\n");
    EXPECT_EQ(load_configuration(std::nullopt, search)->configuration->listen[0].port, 3);
    folder.write("config.yml", "metrics: {port: 2}\n");
    EXPECT_EQ(load_configuration(std::nullopt, search)->configuration->listen[0].port, 2);
    folder.write("config/config.yml", "metrics: {port: 1}\n");
    EXPECT_EQ(load_configuration(std::nullopt, search)->configuration->listen[0].port, 1);
    folder.write("config/config.yml", "metrics: {port: x}\n");
    EXPECT_FALSE(load_configuration(std::nullopt, search));
    EXPECT_THAT(default_configuration_paths(),
                ElementsAre("./config/config.yml", "./config.yml", "/opt/pangolin/config/config.yml"));
}

TEST(Duration, ParsesAndWrites) {
    struct Row {
        const char* text;
        std::chrono::milliseconds expected;
    };
    const Row good[] = {{"500ms", 500ms}, {"10s", 10s}, {"1m", 1min},       {"1h", 1h},
                        {"1m30s", 90s},   {"0s", 0s},   {"1h1ms", 1h + 1ms}};
    for (const Row& row : good) {
        EXPECT_EQ(parse_duration(row.text).value(), row.expected) << row.text;
        EXPECT_EQ(format_duration(row.expected), row.text);
    }
    for (const char* bad : {"", "s", "10", "10 s", " 10s", "10s ", "1.5s", "-1s", "+1s", "1d", "10S", "1m30",
                            "ms", "99999999999s", "99999999999999999999s", "1000000000h1h"})
        EXPECT_FALSE(parse_duration(bad)) << bad;
}

}  // namespace
}  // namespace pangolin
