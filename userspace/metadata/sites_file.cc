#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "userspace/metadata/site_directory.h"
#include "userspace/metadata/sites_file_resources.h"
#include "userspace/metadata/yaml_reader.h"

namespace pangolin {
namespace {

constexpr std::array<YamlChoice<SiteType>, 3> site_types{
    {{"newt", SiteType::newt}, {"wireguard", SiteType::wireguard}, {"local", SiteType::local}}};

// Reads one document. What must be unique in the file is remembered with the line that had it first.
class SitesFileReader {
  public:
    explicit SitesFileReader(YamlProblems& problems) : problems_(&problems) {}

    SiteDirectory read(const YAML::Node& document) {
        SiteDirectory directory;
        YamlMapping root(document, "", *problems_);
        root.require("sites", "Begin the file with 'sites:' and list the sites below; 'sites: []' for none.");
        for (YamlMapping& site : root.mappings("sites"))
            directory.sites.push_back(read_site(site));
        root.finish();
        std::ranges::sort(directory.sites, {}, &Site::site_id);
        resources_.finish(directory);
        return directory;
    }

  private:
    Site read_site(YamlMapping& mapping) {
        Site site;
        mapping.require("site_id", "Each site needs one, as in '- site_id: home'.");
        mapping.text("site_id", site.site_id);
        site.name = site.site_id;
        mapping.text("name", site.name);
        mapping.text("region", site.region);
        mapping.text("newt_id", site.newt_id);
        mapping.choice<SiteType>("type", site.type, site_types);
        if (mapping.has("site_id"))
            check_site_id(mapping, site.site_id);
        read_key(mapping, site);
        read_tunnel(mapping, site);
        check_tunnel_is_named(mapping, site);
        for (YamlMapping& resource : mapping.mappings("resources"))
            resources_.read(resource, site);
        mapping.finish();
        return site;
    }

    void check_site_id(YamlMapping& mapping, const std::string& site_id) {
        if (site_id.empty())
            return mapping.problem("site_id", "is empty", "Give the site a name of its own.");
        if (site_id == unassigned_site_id)
            return mapping.problem("site_id",
                                   fmt::format("'{}' stands for traffic of no known site", site_id),
                                   "Choose another name.");
        const auto [first, is_new] = ids_.try_emplace(site_id, mapping.line());
        if (!is_new)
            mapping.problem("site_id",
                            fmt::format("{} is the name of the site in line {} already", in_quotes(site_id),
                                        first->second),
                            "Give each site a name of its own.");
    }

    void read_key(YamlMapping& mapping, Site& site) {
        WireGuardKey key;
        const auto remember = [&](std::string_view text) -> Result<WireGuardKey> {
            auto parsed = WireGuardKey::from_base64(text);
            if (parsed)
                site.public_key = *parsed;
            return parsed;
        };
        mapping.parsed("public_key", key, remember);
        if (!site.public_key)
            return;
        const auto [first, is_new] = keys_.try_emplace(*site.public_key, mapping.line());
        if (!is_new)
            mapping.problem("public_key",
                            fmt::format("the site in line {} has this key already", first->second),
                            "A WireGuard peer belongs to one site.");
    }

    void read_tunnel(YamlMapping& mapping, Site& site) {
        std::vector<std::string> texts;
        mapping.texts("tunnel", texts);
        for (std::size_t i = 0; i < texts.size(); ++i) {
            const auto prefix = IpPrefix::parse(texts[i]);
            if (!prefix) {
                mapping.problem_at("tunnel", i,
                                   fmt::format("{} is not a network prefix", in_quotes(texts[i])),
                                   prefix.error().hint);
                continue;
            }
            const auto [first, is_new] = tunnels_.try_emplace(*prefix, mapping.line());
            if (!is_new)
                mapping.problem_at("tunnel", i,
                                   fmt::format("{} belongs to the site in line {} already",
                                               prefix->to_string(), first->second),
                                   "Each network belongs to one site.");
            if (site.tunnel.empty())
                if (const auto address = IpAddress::parse(texts[i].substr(0, texts[i].find('/'))))
                    site.tunnel_address = *address;
            site.tunnel.push_back(*prefix);
        }
    }

    static void check_tunnel_is_named(YamlMapping& mapping, const Site& site) {
        const bool named = mapping.has("public_key") || mapping.has("tunnel");
        if (site.type == SiteType::local && named)
            mapping.problem(mapping.has("tunnel") ? "tunnel" : "public_key",
                            "a site of type local has no tunnel", "Remove this key, or the type.");
        if (site.type != SiteType::local && !named)
            mapping.require("tunnel",
                            "Write the site's network as in 'tunnel: 100.89.128.4/30', its 'public_key', "
                            "or 'type: local' for a site without a tunnel.");
    }

    YamlProblems* problems_;
    SitesFileResources resources_;
    std::map<std::string, int> ids_;
    std::map<WireGuardKey, int> keys_;
    std::map<IpPrefix, int> tunnels_;
};

class SitesFileSource final : public SiteSource {
  public:
    explicit SitesFileSource(std::string path) : path_(std::move(path)) {}

    std::string_view name() const override { return "sites_file"; }

    Result<SiteDirectory> read() override {
        auto text = read_text_file(path_);
        if (!text)
            return std::unexpected(text.error());
        // Comparing the text is cheaper than parsing it, and surer than the time of its last change.
        if (last_text_ == *text)
            return last_directory_;
        const auto document = parse_yaml(*text, path_);
        if (!document)
            return std::unexpected(document.error());
        YamlProblems problems(path_);
        SiteDirectory directory = SitesFileReader(problems).read(*document);
        if (auto result = problems.result(); !result)
            return std::unexpected(result.error());
        last_text_ = std::move(*text);
        last_directory_ = std::move(directory);
        return last_directory_;
    }

  private:
    std::string path_;
    std::optional<std::string> last_text_;
    SiteDirectory last_directory_;
};

}  // namespace

std::unique_ptr<SiteSource> make_sites_file_source(std::string path) {
    return std::make_unique<SitesFileSource>(std::move(path));
}

}  // namespace pangolin
