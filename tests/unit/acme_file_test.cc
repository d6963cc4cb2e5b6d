#include "userspace/certificates/acme_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/support/certificates.h"
#include "userspace/certificates/certificate_book.h"

namespace pangolin {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

constexpr std::int64_t expiry = 1'800'000'000;

Result<AcmeFile> parse(std::string text) {
    return parse_acme_file(text);
}

TEST(AcmeFile, ReadsTheLeafOfEachChain) {
    const std::string leaf = make_certificate({{"example.com", "*.Example.COM"}, expiry});
    const std::string issuer = make_certificate({{"ca.invalid"}, expiry + 1});
    const std::string other = make_certificate({{"app.example.org"}, expiry - 1});
    const auto file = parse(acme_json(
        {{"Example.com.", {"*.example.com"}, leaf + issuer}, {"", {"app.example.org"}, other}}, "a2V5"));
    ASSERT_TRUE(file) << file.error().message();
    EXPECT_THAT(file->problems, IsEmpty());
    ASSERT_EQ(file->certificates.size(), 2U);
    EXPECT_EQ(file->certificates[0].domain, "example.com");
    EXPECT_THAT(file->certificates[0].names, ElementsAre("example.com", "*.example.com"));
    EXPECT_EQ(file->certificates[0].not_after, expiry);
    EXPECT_EQ(file->certificates[1].domain, "app.example.org");
    EXPECT_EQ(file->certificates[1].not_after, expiry - 1);
    EXPECT_NE(file->certificates[0].identity, file->certificates[1].identity);
}

TEST(AcmeFile, OneUnusableEntryDoesNotCostTheOthers) {
    const std::string good = make_certificate({{"good.example"}, expiry});
    const auto file = parse(acme_json({{"bad.example", {}, "no certificate"},
                                       {"", {}, good},
                                       {"empty.example", {}, ""},
                                       {std::string(300, 'x'), {}, good},
                                       {"good.example", {}, good}},
                                      "a2V5"));
    ASSERT_TRUE(file);
    ASSERT_EQ(file->certificates.size(), 1U);
    EXPECT_EQ(file->certificates[0].domain, "good.example");
    EXPECT_THAT(file->problems,
                ElementsAre(HasSubstr("'bad.example' holds no certificate"), HasSubstr("no domain"),
                            HasSubstr("'empty.example'"), HasSubstr("no domain")));
}

TEST(AcmeFile, ShapesThatTraefikWritesWithoutCertificates) {
    for (const char* text :
         {"{}", R"({"letsencrypt": null})", R"({"letsencrypt": {"Account": null, "Certificates": null}})",
          R"({"a": {"Certificates": []}, "b": {}})", R"({"a": {"Certificates": [null, 3, "x", {}, []]}})",
          R"({"a": {"Certificates": [{"domain": "x", "certificate": 5}]}})"}) {
        SCOPED_TRACE(text);
        const auto file = parse(text);
        ASSERT_TRUE(file);
        EXPECT_THAT(file->certificates, IsEmpty());
    }
}

TEST(AcmeFile, WhatIsNoAcmeJsonIsAnError) {
    for (const char* text :
         {"", " ", "[]", "5", "{", R"({"letsencrypt": {"Certificates": [)", "\xff\xfe", "nul"}) {
        SCOPED_TRACE(text);
        const auto file = parse(text);
        ASSERT_FALSE(file);
        EXPECT_THAT(file.error().message(), HasSubstr("not the JSON that Traefik writes"));
    }
}

// Every beginning of a file is one that a writer may have got to.
TEST(AcmeFile, NoBeginningOfAFileIsTakenForAWholeOne) {
    const std::string whole =
        acme_json({{"example.com", {}, make_certificate({{"example.com"}, expiry})}}, "a2V5");
    for (std::size_t size = 0; size < whole.size(); ++size)
        EXPECT_FALSE(parse(whole.substr(0, size))) << size;
    EXPECT_TRUE(parse(whole));
}

TEST(AcmeFile, PrivateKeysAreErasedBeforeAnythingIsParsed) {
    const std::string key = make_private_key();
    std::string text = acme_json({{"a.example", {}, make_certificate({{"a.example"}, expiry})},
                                  {"b.example", {}, make_certificate({{"b.example"}, expiry})}},
                                 key);
    ASSERT_THAT(text, HasSubstr(key));
    const auto file = parse_acme_file(text);
    ASSERT_TRUE(file);
    EXPECT_EQ(file->certificates.size(), 2U);
    EXPECT_THAT(text, Not(HasSubstr(key)));
    for (std::size_t part = 0; part + 16 <= key.size(); part += 16)
        EXPECT_THAT(text, Not(HasSubstr(key.substr(part, 16)))) << part;
}

TEST(AcmeFile, ErasesInAnyLayout) {
    struct Row {
        const char* description;
        std::string before;
        std::string after;
    };
    const Row rows[] = {
        {"spaces", "{\"key\" :\n\t \"SECRET\", \"x\": \"y\"}", "{\"key\" :\n\t \"------\", \"x\": \"y\"}"},
        {"case", R"({"KEY":"SECRET","privatekey":"SECRET"})", R"({"KEY":"------","privatekey":"------"})"},
        {"escaped quotes", R"({"key":"SEC\"RET\\","a":"b"})", R"({"key":"----------","a":"b"})"},
        {"a name with escapes", R"({"k\u0065y":"SECRET","b":"kept"})", R"({"k\u0065y":"------","b":"kept"})"},
        {"a name that ends so", R"({"a\"key":"SECRET","b":"kept"})", R"({"a\"key":"------","b":"kept"})"},
        {"a value that is called so", R"({"a":"key","b":"kept"})", R"({"a":"key","b":"kept"})"},
        {"not a string", R"({"key":5,"b":"kept"})", R"({"key":5,"b":"kept"})"},
        {"a list is no string", R"({"key":["kept"]})", R"({"key":["kept"]})"},
        {"an open end", R"({"key":"SECRET)", R"({"key":"------)"},
        {"an open end after a backslash", "{\"key\":\"SECRET\\", "{\"key\":\"-------"},
        {"a name alone", R"({"key":)", R"({"key":)"},
        {"a name that is not closed", R"({"key)", R"({"key)"},
        {"nothing", "", ""},
    };
    for (const Row& row : rows) {
        SCOPED_TRACE(row.description);
        std::string text = row.before;
        erase_private_keys(text);
        EXPECT_EQ(text, row.after);
    }
}

TEST(Certificate, NamesAreTheAlternativeOnesAlone) {
    const auto certificate = read_leaf_certificate(make_certificate({{"example.com"}, expiry, false}));
    ASSERT_TRUE(certificate);
    EXPECT_THAT(certificate->names, IsEmpty());
    EXPECT_FALSE(read_leaf_certificate("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"));
}

TEST(Certificate, DatesBeyond2049AreReadAsWell) {
    constexpr std::int64_t year_2100 = 4'102'444'800;  // GeneralizedTime (RFC 5280 section 4.1.2.5)
    EXPECT_EQ(read_leaf_certificate(make_certificate({{"a.example"}, year_2100}))->not_after, year_2100);
}

Certificate certificate(std::string domain, std::vector<std::string> names, std::int64_t not_after) {
    Certificate made;
    made.domain = std::move(domain);
    made.names = std::move(names);
    made.not_after = not_after;
    return made;
}

// RFC 6125 section 6.4.3, RFC 9525 section 6.3.
TEST(CertificateBook, WildcardsStandForOneLabel) {
    std::vector<Certificate> certificates;
    certificates.push_back(certificate("wild", {"*.example.com", "example.com"}, 1));
    certificates.push_back(certificate("exact", {"app.example.com"}, 2));
    certificates.push_back(certificate("deep", {"*.dev.example.com"}, 3));
    certificates.push_back(certificate("partial", {"w*.example.org", "*"}, 4));
    certificates.push_back(certificate("middle", {"a.*.example.org"}, 5));
    certificates.push_back(certificate("old", {"twice.example.net"}, 6));
    certificates.push_back(certificate("new", {"twice.example.net"}, 7));
    certificates.push_back(certificate("new", {"other.example.net"}, 8));
    const CertificateBook book(std::move(certificates));
    struct Row {
        const char* host;
        const char* domain;
    };
    const Row rows[] = {
        {"app.example.com", "exact"},
        {"other.example.com", "wild"},
        {"OTHER.Example.Com.", "wild"},
        {"example.com", "wild"},
        {"a.b.example.com", ""},
        {"x.dev.example.com", "deep"},
        {"dev.example.com", "wild"},
        {"*.example.com", "wild"},
        {"*.app.example.com", ""},
        {"*.dev.example.com", "deep"},
        {"www.example.org", ""},
        {"a.b.example.org", ""},
        {"localhost", ""},
        {".example.com", ""},
        {"", ""},
        {"twice.example.net", "new"},
        {"xexample.com", ""},
    };
    for (const Row& row : rows) {
        SCOPED_TRACE(row.host);
        const Certificate* const found = book.find(row.host);
        EXPECT_EQ(found ? found->domain : "", row.domain);
    }
    EXPECT_EQ(book.find("twice.example.net")->not_after, 7);
    ASSERT_EQ(book.by_domain().size(), 7U);
    EXPECT_EQ(book.by_domain()[4]->domain, "old");
    EXPECT_EQ(book.by_domain()[3]->not_after, 8);
}

}  // namespace
}  // namespace pangolin
