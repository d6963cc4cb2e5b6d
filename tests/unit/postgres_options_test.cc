#include "userspace/metadata/postgres_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace pangolin {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;

std::map<std::string, std::string> parameters(const std::string& text) {
    const auto options = parse_postgres_options(text);
    EXPECT_TRUE(options) << options.error().message();
    if (!options)
        return {};
    return {options->parameters.begin(), options->parameters.end()};
}

TEST(PostgresOptions, ReadsPangolinsOwnString) {
    auto of = parameters("postgresql://pangolin:s%40cret@postgres:5432/pangolin");
    EXPECT_EQ(of["user"], "pangolin");
    EXPECT_EQ(of["password"], "s@cret");
    EXPECT_EQ(of["host"], "postgres");
    EXPECT_EQ(of["port"], "5432");
    EXPECT_EQ(of["dbname"], "pangolin");
    EXPECT_EQ(of["application_name"], "pangolin_exporter");
    EXPECT_EQ(of["connect_timeout"], "3");
    EXPECT_THAT(of["options"],
                AllOf(HasSubstr("default_transaction_read_only=on"), HasSubstr("statement_timeout=2000")));
    EXPECT_EQ(parse_postgres_options("postgresql://pangolin:x@postgres:5432/pangolin")->name,
              "PostgreSQL database pangolin on postgres:5432");
}

TEST(PostgresOptions, TheStringMaySayMore) {
    auto of = parameters(
        "host=/run/postgresql dbname=p options='-c work_mem=1MB' connect_timeout=9 "
        "application_name=other");
    EXPECT_EQ(of["host"], "/run/postgresql");
    EXPECT_EQ(of["connect_timeout"], "9");
    EXPECT_EQ(of["application_name"], "pangolin_exporter");
    EXPECT_THAT(of["options"], AllOf(HasSubstr("work_mem=1MB"), EndsWith("lock_timeout=500")));
}

TEST(PostgresOptions, ParametersOfNodePostgresAreTranslated) {
    struct Row {
        const char* query;
        const char* sslmode;
    };
    const Row rows[] = {{"?sslmode=no-verify", "require"},
                        {"?sslmode=verify-full&uselibpqcompat=true", "verify-full"},
                        {"?ssl=true", "require"},
                        {"?ssl=1&max=20", "require"},
                        {"?ssl=false", ""},
                        {"?idle_timeout=3&sslmode=disable", "disable"},
                        {"?", ""},
                        {"?&&", ""}};
    for (const Row& row : rows) {
        SCOPED_TRACE(row.query);
        EXPECT_EQ(parameters(std::string("postgres://p:x@h/d") + row.query)["sslmode"], row.sslmode);
    }
}

TEST(PostgresOptions, ErrorsShowNothingOfTheString) {
    for (const char* text :
         {"postgresql://pangolin:hunter2@[::1/d", "postgresql://p:hunter2%zz@h/d", "hunter2",
          "password=hunter2 host", "password='hunter2", "postgresql://p:hunter2@h:port:9/d?sslmode",
          "postgresql://p:x@h/d?sslmode=%hunter2", "nonsense=hunter2", "mysql://u:hunter2@h/d",
          // Characters of a password that had to be encoded.
          "postgresql://u:hunter2/x@h/d", "postgresql://u:x/hunter2@h/d", "postgresql://u:x@hunter2@h/d",
          "postgresql://u:hunter2@x@h/d", "postgresql://u:1234/hunter2@h/d",
          "postgresql://u:1234/a?hunter2@h/d", "postgresql://u:1234/a?hunter2=x@h/d"}) {
        SCOPED_TRACE(text);
        const auto options = parse_postgres_options(text);
        ASSERT_FALSE(options);
        EXPECT_THAT(options.error().message(),
                    AllOf(HasSubstr("connection string"), HasSubstr("HINT"), Not(HasSubstr("hunter2"))));
    }
    EXPECT_FALSE(parse_postgres_options(std::string("host=a\0 dbname=b", 16)));
}

TEST(PostgresOptions, QuestionMarksInPasswordsNeedNoEncoding) {
    for (const char* query : {"", "?sslmode=no-verify"}) {
        auto of = parameters(std::string("postgresql://u:what?a=b@h:5433/d") + query);
        EXPECT_EQ(of["password"], "what?a=b");
        EXPECT_EQ(of["host"], "h");
        EXPECT_EQ(of["dbname"], "d");
        EXPECT_EQ(of["sslmode"], *query == '\0' ? "" : "require");
    }
}

TEST(PostgresOptions, NamesHaveNoPassword) {
    for (const char* text : {"postgresql://u:hunter2@h/d", "user=u password=hunter2", "password=hunter2"}) {
        const auto options = parse_postgres_options(text);
        ASSERT_TRUE(options);
        EXPECT_THAT(options->name, Not(HasSubstr("hunter2")));
    }
}

}  // namespace
}  // namespace pangolin
