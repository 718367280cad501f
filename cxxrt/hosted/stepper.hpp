/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Logical threads run one at a time, switching only at scheduling points (hosted::point(), locks, waits),
 * and every order of their steps is tried, up to a number of preemptions: depth first, by replaying each
 * run from its start with one decision changed. What is tried must not depend on anything but the order.
 */
#pragma once
#include <functional>
#include <string>
#include <vector>

namespace kx::hosted {

class Stepper {
public:
	struct Run {
		std::vector<std::function<void()>> strands;
		std::function<void()> check; /* when all have ended */
	};
	struct Result {
		unsigned schedules;
		bool exhausted; /* nothing left within the bound */
	};

	explicit Stepper(unsigned preemptions = 2, unsigned max_schedules = 100000)
		: preemptions_{preemptions}, max_{max_schedules}
	{
	}
	/* begin() makes a fresh world for each schedule; failed() is asked after each: true stops. */
	Result explore(const std::function<Run()> &begin, const std::function<bool()> &failed = {});
	/* The decisions of the schedule that ran last, for a message. */
	std::string schedule() const;
	/* Replays one schedule. */
	void replay(const std::string &schedule, const std::function<Run()> &begin);

private:
	struct Decision {
		unsigned chosen, choices;
		bool free; /* who ran before cannot go on: no preemption */
	};
	std::vector<Decision> path_;
	unsigned preemptions_, max_;

	friend class Fibers;
	void run(const Run &);
	bool next();
};

}
