#include "userspace/certificates/certificate_ledger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace pangolin {
namespace {

using testing::ElementsAre;

Certificate certificate(std::string domain, std::uint8_t identity, std::int64_t not_after = 100) {
    Certificate made;
    made.names = {domain};
    made.domain = std::move(domain);
    made.not_after = not_after;
    made.identity[0] = identity;
    return made;
}

CertificateRow row(std::string domain, std::string status, std::optional<std::int64_t> expires_at,
                   std::int64_t attempt = 0) {
    return {.domain = std::move(domain),
            .status = std::move(status),
            .expires_at = expires_at,
            .last_renewal_attempt = attempt};
}

class CertificateLedgerTest : public testing::Test {
  protected:
    // "issued renewed removed failed".
    std::string events(const std::string& domain) const {
        const auto counts = ledger.snapshot().events;
        if (!counts || !counts->contains(domain))
            return "unknown";
        std::string text;
        for (const std::uint64_t count : counts->at(domain))
            text += (text.empty() ? "" : " ") + std::to_string(count);
        return text;
    }
    std::vector<std::string> domains() const {
        std::vector<std::string> list;
        if (const auto book = ledger.snapshot().book)
            for (const Certificate* each : book->by_domain())
                list.push_back(each->domain);
        return list;
    }
    CertificateLedger ledger;
};

TEST_F(CertificateLedgerTest, WhatIsThereAtFirstIsNoEvent) {
    EXPECT_FALSE(ledger.snapshot().book);
    EXPECT_FALSE(ledger.snapshot().events);
    ledger.set_file({certificate("a", 1)});
    EXPECT_EQ(events("a"), "0 0 0 0");
    ledger.set_file({certificate("a", 1), certificate("b", 1)});
    EXPECT_EQ(events("b"), "1 0 0 0");
    ledger.set_file({certificate("a", 2), certificate("b", 1)});
    EXPECT_EQ(events("a"), "0 1 0 0");
    ledger.set_file({certificate("b", 1)});
    EXPECT_EQ(events("a"), "0 1 1 0");
    ledger.set_file({certificate("a", 3), certificate("b", 1)});
    EXPECT_EQ(events("a"), "1 1 1 0");
    EXPECT_EQ(events("b"), "1 0 0 0");
}

TEST_F(CertificateLedgerTest, AFileThatAppearsBringsNewCertificates) {
    ledger.lose_file(true);
    EXPECT_FALSE(ledger.snapshot().book);
    ledger.set_file({certificate("a", 1)});
    EXPECT_EQ(events("a"), "1 0 0 0");
}

TEST_F(CertificateLedgerTest, AFileThatWasUnreadableIsComparedWithItsLastWord) {
    ledger.lose_file(false);
    ledger.set_file({certificate("a", 1)});
    EXPECT_EQ(events("a"), "0 0 0 0");
    ledger.lose_file(true);
    EXPECT_FALSE(ledger.snapshot().book);
    EXPECT_FALSE(ledger.snapshot().events);
    ledger.set_file({certificate("a", 2)});
    EXPECT_EQ(events("a"), "0 1 0 0");
}

TEST_F(CertificateLedgerTest, OfSeveralForADomainTheLastOneCounts) {
    ledger.set_file({certificate("a", 1, 100), certificate("a", 2, 200)});
    EXPECT_EQ(ledger.snapshot().book->find("a")->not_after, 200);
    ledger.set_file({certificate("a", 2, 200), certificate("a", 3, 50)});
    EXPECT_EQ(events("a"), "0 0 0 0");
}

TEST_F(CertificateLedgerTest, TheFilesWordCountsBeforeTheTables) {
    ledger.set_file({certificate("a", 1, 100)});
    ledger.set_rows({row("a", "valid", 500), row("b", "valid", 300)});
    EXPECT_THAT(domains(), ElementsAre("a", "b"));
    EXPECT_EQ(ledger.snapshot().book->find("a")->not_after, 100);
    // Pangolin's table follows acme.json: what both tell is one event.
    ledger.set_file({certificate("a", 2, 600)});
    ledger.set_rows({row("a", "valid", 600), row("b", "valid", 300)});
    EXPECT_EQ(events("a"), "0 1 0 0");
    ledger.set_rows({row("a", "valid", 600), row("b", "valid", 900), row("c", "valid", 1)});
    EXPECT_EQ(events("b"), "0 1 0 0");
    EXPECT_EQ(events("c"), "1 0 0 0");
    ledger.lose_file(false);
    EXPECT_EQ(ledger.snapshot().book->find("a")->not_after, 600);
    ledger.lose_rows();
    EXPECT_FALSE(ledger.snapshot().book);
}

TEST_F(CertificateLedgerTest, FailuresAreCountedByAttempt) {
    ledger.set_rows({row("old", "failed", 100, 7), row("new", "pending", std::nullopt)});
    EXPECT_EQ(events("old"), "0 0 0 0");
    EXPECT_EQ(events("new"), "unknown");
    ledger.set_rows({row("old", "failed", 100, 7), row("new", "failed", std::nullopt, 8)});
    EXPECT_EQ(events("old"), "0 0 0 0");
    EXPECT_EQ(events("new"), "0 0 0 1");
    ledger.set_rows({row("old", "failed", 100, 9), row("new", "valid", 500, 8)});
    EXPECT_EQ(events("old"), "0 0 0 1");
    EXPECT_EQ(events("new"), "1 0 0 1");
    ledger.set_rows({row("old", "valid", 800, 9), row("new", "failed", 500, 8)});
    EXPECT_EQ(events("old"), "0 1 0 1");
    EXPECT_EQ(events("new"), "1 0 0 2");
}

TEST_F(CertificateLedgerTest, AWildcardRowCoversBothForms) {
    CertificateRow wild = row("Example.com", "valid", 100);
    wild.wildcard = true;
    CertificateRow star = row("*.example.org", "valid", 200);
    star.wildcard = true;
    ledger.set_rows({wild, star});
    const auto book = ledger.snapshot().book;
    EXPECT_EQ(book->find("example.com")->not_after, 100);
    EXPECT_EQ(book->find("a.example.com")->not_after, 100);
    EXPECT_EQ(book->find("a.example.org")->not_after, 200);
    EXPECT_EQ(book->find("example.org"), nullptr);
}

TEST_F(CertificateLedgerTest, SeriesAreBounded) {
    std::vector<Certificate> certificates;
    ledger.set_file({});
    for (std::size_t i = 0; i < most_certificate_domains + 5; ++i)
        certificates.push_back(certificate("d" + std::to_string(i), 1));
    ledger.set_file(std::move(certificates));
    const CertificateSnapshot snapshot = ledger.snapshot();
    EXPECT_EQ(snapshot.book->size(), most_certificate_domains);
    EXPECT_EQ(snapshot.left_out, 5U);
    EXPECT_EQ(snapshot.events->size(), most_certificate_domains + 1);
    EXPECT_EQ(events(other_domains), "5 0 0 0");
}

}  // namespace
}  // namespace pangolin
