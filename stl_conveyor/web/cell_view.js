// Copyright 2026 The stl_conveyor maintainers
// SPDX-License-Identifier: Apache-2.0
// The page of one cell. What it shows comes through `take`, piece by piece; what is text goes
// through Vue's {{ }} and attributes, so that no class name or message is ever taken for markup.
// Of what a v-memo names nothing has changed where a part is not drawn anew: it must name all that
// the part shows and that news may change.

const STALE_MS = 3000; // without news the page says that it is old
const SHOWN = 60; // items in the list
const BIN = { before: 0.08, behind: 0.16, depth: 0.15, gap: 0.012 }; // m, around a diverter
const END = 0.3; // m of the reject bin behind the belt
const PUSH_M = 0.06; // m of belt in which an item is drawn to be pushed off
const LEVELS = ["ok", "warn", "error"];
const ICONS = ["✓", "!", "✕"];
const FRAME_MS = 25; // from a picture of what moves to asking for the next, which makes 30 a second
const LONGEST_FRAME_MS = 200; // the same where the machine has no time for it
const REFRESH_MS = 17; // in which a screen takes a picture that is asked for
const REST = 4; // times its lateness that a late picture is waited after

// What writes numbers and times is made once for each way to write them: that takes long.
const writers = new Map();
function writer(kind, lang, options) {
  const key = kind.name + lang + JSON.stringify(options);
  if (!writers.has(key)) writers.set(key, new kind(lang, options));
  return writers.get(key);
}

// What was told before where the same is told again, so that nothing is drawn anew for it. Frozen,
// it is looked at as a whole: what is told is replaced and never changed.
function same(before, now) {
  return JSON.stringify(before) === JSON.stringify(now) ? before : Object.freeze(now);
}

export default {
  template: `
<div class="panel" :lang="lang">
  <a class="skip" href="#alarms">{{ t('skip') }}</a>
  <header class="top">
    <h1><span class="product">{{ t('title') }}</span>
      <span v-if="scene.name" class="cell">{{ scene.name }}</span></h1>
    <nav v-if="cells.length > 1" class="cells" :aria-label="t('cell')">
      <a v-for="(cell, n) in cells" :key="n" :href="cell.href"
         :aria-current="n === number ? 'page' : null">{{ cell.name || t('cell') + ' ' + (n + 1) }}</a>
    </nav>
    <span class="pill" :class="'level-' + worst" role="status">
      <span class="icon" aria-hidden="true">{{ icon(worst) }}</span>{{ t('state.' + level(worst)) }}</span>
    <span v-if="safe !== null" class="pill safe" :class="safe ? 'level-0' : 'level-2'" role="status" :title="t('safe.why')">
      <span class="icon" aria-hidden="true">{{ icon(safe ? 0 : 2) }}</span>{{ t(safe ? 'safe.yes' : 'safe.no') }}</span>
    <span v-if="user" class="who">{{ user.name }} ({{ t('role.' + user.role) }})
      <button type="button" class="logout" @click="log_out">{{ t('login.out') }}</button></span>
    <button v-else-if="login" type="button" class="login" @click="$refs.login.showModal()">{{ t('login.in') }}</button>
    <span v-else class="who" :title="t('read_only_why')">{{ t('read_only') }}</span>
    <span class="controls">
      <label><span class="unseen">{{ t('language_choice') }}</span>
        <select class="language" :value="lang" @change="choose_language($event.target.value)">
          <option v-for="language in languages" :key="language[0]" :value="language[0]">{{ language[1] }}</option>
        </select></label>
      <button type="button" class="appearance" :aria-label="t('appearance')" :title="t('appearance')"
              @click="switch_appearance">{{ dark ? '☾' : '☀' }} {{ dark ? t('dark') : t('light') }}</button>
    </span>
  </header>
  <p v-if="stale" class="stale" role="alert">{{ heard ? t('frozen', {seconds: stale}) : t('connecting') }}</p>

  <main :class="{old: stale}">
  <section class="card belt" :aria-label="t('belt.title')">
    <div class="head"><h2>{{ t('belt.title') }}</h2>
      <span class="motion" :class="'motion-' + belt.state">{{ motion }}</span></div>
    <svg ref="belt" :viewBox="view_box" class="picture" role="group" :aria-label="t('belt.how')">
      <rect class="surface" v-bind="box(scene.belt.start, -half, scene.belt.end, half)"></rect>
      <g v-for="lane in bins" :key="lane.name" :class="['bin', 'lane-' + lane.n]">
        <rect v-bind="box(lane.x0, lane.y0, lane.x1, lane.y1)" rx="8"></rect>
        <text v-bind="place_text(lane)" class="bin-name">{{ lane.label }}</text>
        <text v-bind="place_text(lane, 1)" class="bin-count">{{ number_of(counts.lanes && counts.lanes[lane.name]) }}</text>
      </g>
      <g v-for="lane in scene.lanes" :key="'p' + lane.name" class="pusher">
        <rect v-bind="box(lane.x - scene.paddle / 2, -half - 0.035, lane.x + scene.paddle / 2, -half - 0.008)" rx="4"></rect>
      </g>
      <line class="barrier" v-bind="segment(scene.barrier, -half - 0.03, scene.barrier, half + 0.03)"><title>{{ t('belt.barrier') }}</title></line>
      <rect class="camera" v-bind="box(scene.camera.x - scene.camera.view / 2, -half - 0.012, scene.camera.x + scene.camera.view / 2, half + 0.012)" rx="6"></rect>
      <text class="camera-name" v-bind="camera_name">{{ t('belt.camera') }}</text>
      <g v-for="item in on_belt" :key="item.key" v-memo="[item, item.key === chosen]" class="item" :data-key="item.key" tabindex="0" role="button"
         :class="[item_class(item), {chosen: item.key === chosen}]" :aria-label="describe(item)"
         @click="choose(item.key)" @keydown.enter="choose(item.key)" @keydown.space.prevent="choose(item.key)">
        <rect class="frame" :x="-size / 2" :y="-size / 2" :width="size" :height="size" rx="10"></rect>
        <text class="number">{{ item.id }}</text>
        <image v-if="item.crop" :href="crop(item.key)" :x="-size / 2 + 4" :y="-size / 2 + 4" :width="size - 8" :height="size - 8"
               preserveAspectRatio="xMidYMid slice"></image>
        <g v-if="item.outcome" class="badge" :transform="'translate(' + size / 2 + ',' + -size / 2 + ')'">
          <circle r="17"></circle><text y="7">{{ sign(item) }}</text></g>
        <title>{{ describe(item) }}</title>
      </g>
    </svg>
    <p v-if="!on_belt.length" class="hint">{{ t('belt.empty') }}</p>
  </section>

  <section class="figures" :aria-label="t('count.title')">
    <div v-for="figure in figures" :key="figure.name" class="figure" :class="[figure.kind, 'figure-' + figure.name]">
      <span class="name">{{ figure.label }}</span>
      <span class="value" :data-count="figure.name">{{ figure.value }}</span>
      <span class="more">{{ figure.more }}</span>
    </div>
  </section>

  <section v-if="rights.includes('run') || rights.includes('policy')" class="card control" :aria-label="t('control.title')">
    <div class="head"><h2>{{ t('control.title') }}</h2>
      <span class="pill" :class="running === false ? 'level-1' : 'level-0'">{{ running === undefined ? t('control.unknown') : t(running ? 'control.runs' : 'control.paused') }}</span></div>
    <p class="refusal" role="alert">{{ refusal }}</p>
    <div class="fields">
      <div v-if="rights.includes('run')"><button type="button" class="run" :disabled="running === undefined || busy" @click="ask({running: !running})">
        {{ running === false ? '▶ ' + t('control.start') : '❚❚ ' + t('control.pause') }}</button>
        <p class="hint">{{ t('control.pause_why') }}</p></div>
      <form v-if="rights.includes('policy')" @submit.prevent="ask(wanted)">
        <label>{{ t('control.policy') }} <select v-model="form.policy" name="policy"><option v-for="policy in policies" :key="policy">{{ policy }}</option></select></label>
        <label>{{ t('control.rate') }} <input v-model.number="form.rate" name="rate" type="number" min="0" max="1000" step="any" required></label>
        <label>{{ t('control.depth') }} <input v-model.number="form.depth" name="depth" type="number" min="1" max="100000" step="any" required></label>
        <button type="submit" class="apply" :disabled="busy || !Object.keys(wanted).length">{{ t('control.apply') }}</button>
      </form>
      <form v-if="rights.includes('recipe') && control.recipes && control.recipes.length" class="recipes" @submit.prevent="ask({recipe: form.recipe})">
        <label>{{ t('control.recipe') }} <select v-model="form.recipe" name="recipe"><option v-for="recipe in recipe_names" :key="recipe">{{ recipe }}</option></select></label>
        <button type="submit" class="apply" :disabled="busy || !form.recipe || form.recipe === control.values.recipe">{{ t('control.apply') }}</button>
        <p class="hint">{{ t('control.recipe_why') }}</p>
      </form>
      <details v-if="rights.includes('recipe') && cell_form" class="cell-values"><summary>{{ t('control.cell_values') }}</summary>
        <form @submit.prevent="ask({cell_values: cell_wanted})">
          <p class="hint">{{ t('control.recipe_why') }}</p>
          <label class="tick"><input v-model="cell_form.by_cost" type="checkbox" name="by_cost"> {{ t('control.by_cost') }}</label>
          <fieldset v-if="cell_form.by_cost" class="costs"><legend>{{ t('control.costs') }}</legend>
            <label v-for="name in ['wrong', 'reject', 'foreign']" :key="name">{{ t('control.cost_' + name) }}
              <input v-model.number="cell_form.costs[name]" :name="'cost_' + name" type="number" min="0" max="1000000" step="any" required></label></fieldset>
          <fieldset class="purities"><legend>{{ t('control.purity') }}</legend>
            <label v-for="lane in scene.lanes" :key="lane.name">{{ lane_name(lane.name) }}
              <input v-model="cell_form.purity[lane.name]" :name="'purity_' + lane.name" type="number" min="0.5" max="0.9999" step="any" :placeholder="t('control.no_target')"></label></fieldset>
          <fieldset class="lanes-of"><legend>{{ t('control.lanes') }}</legend>
            <label v-for="name in Object.keys(cell_form.lanes)" :key="name">{{ name }}
              <select v-model="cell_form.lanes[name]" :name="'lane_' + name"><option v-for="lane in scene.lanes" :key="lane.name" :value="lane.name">{{ lane_name(lane.name) }}</option></select></label></fieldset>
          <button type="submit" class="apply" :disabled="busy || !Object.keys(cell_wanted).length">{{ t('control.apply') }}</button>
        </form>
      </details>
    </div>
    <details v-if="control.changes.length" class="log" open><summary>{{ t('control.changes') }}</summary>
      <ul><li v-for="change in control.changes" :key="change.number" class="change"><span>{{ time(change.time) }} {{ change.who }}: {{ change_text(change.before, change.after) }}
        <b v-if="change.failed" class="wrong">{{ t('control.failed', {why: change.failed}) }}</b><i v-if="change.undoes">{{ t('control.undoes') }}</i></span>
        <button v-if="can_undo(change)" type="button" class="undo" :disabled="busy" @click="ask(change.before, change)">{{ t('control.undo') }}</button></li></ul></details>
    <p v-if="control.trouble" class="trouble" role="alert">{{ control.trouble }}</p>
  </section>

  <section id="alarms" v-memo="[alarms, nodes]" class="card alarms" tabindex="-1" :aria-label="t('alarm.title')">
    <div class="head"><h2>{{ t('alarm.title') }}</h2>
      <span class="pill" :class="'level-' + alarm_level" aria-live="polite">
        <span class="icon" aria-hidden="true">{{ icon(alarm_level) }}</span>{{ alarm_text }}</span></div>
    <ul>
      <li v-for="alarm in alarms.open" :key="alarm.key" class="alarm" :class="['level-' + alarm.level, {over: alarm.ended}]" :data-alarm="alarm.key">
        <component :is="alarm.ended ? 'details' : 'div'">
        <component :is="alarm.ended ? 'summary' : 'div'" class="what"><span class="icon" aria-hidden="true">{{ icon(alarm.level) }}</span>
          <strong>{{ t('state.' + level(alarm.level)) }}: {{ alarm.fault }}</strong> <span class="node">{{ alarm.node }}</span>
          <span v-if="alarm.ended" class="ended">{{ t('alarm.ended', {time: time(alarm.ended)}) }}</span></component>
        <p class="message">{{ alarm.message }}</p>
        <p class="since">{{ t('alarm.since', {time: time(alarm.since)}) }} · {{ t('alarm.count', {count: number_of(alarm.count)}) }} ·
          {{ alarm.ended ? t('alarm.ended', {time: time(alarm.ended)}) : t('alarm.lasting') }}</p>
        <p class="remedy"><b>{{ t('alarm.remedy') }}:</b> {{ alarm.remedy ? t('remedy.' + alarm.remedy) : t('alarm.no_remedy') }}</p>
        <p v-if="alarm.acknowledged_by" class="seen">✓ {{ t('alarm.acknowledged', {who: alarm.acknowledged_by}) }}</p>
        <button v-else-if="rights.includes('acknowledge')" type="button" class="acknowledge" @click="$emit('acknowledge', alarm.key)">{{ t('alarm.acknowledge') }}</button>
        </component>
      </li>
    </ul>
    <p v-if="alarms.trouble" class="trouble" role="alert">{{ alarms.trouble }}</p>
    <details v-if="alarms.log && alarms.log.length" class="log"><summary>{{ t('alarm.log') }}</summary>
      <div class="scroll"><table><thead><tr><th scope="col">{{ t('alarm.time') }}</th><th scope="col">{{ t('alarm.event') }}</th>
        <th scope="col">{{ t('alarm.fault') }}</th><th scope="col">{{ t('alarm.message') }}</th></tr></thead>
        <tbody><tr v-for="(entry, n) in alarms.log" :key="n"><td>{{ time(entry.time) }}</td>
          <td>{{ t(entry.event === 'acknowledged' ? 'alarm.acknowledged_event' : 'alarm.' + entry.event) }} {{ entry.by }}</td>
          <td>{{ entry.key }}</td><td>{{ entry.message }}</td></tr></tbody></table></div>
    </details>
    <h3>{{ t('nodes.title') }}</h3>
    <p v-if="!nodes.length" class="hint">{{ t('nodes.none') }}</p>
    <ul class="nodes"><li v-for="node in nodes" :key="node.name" :class="'level-' + node.level" :title="node.message">
      <span class="icon" aria-hidden="true">{{ icon(node.level) }}</span>{{ node.name }}<span class="unseen">: {{ t('state.' + level(node.level)) }}</span></li></ul>
  </section>

  <section class="card items" :aria-label="t('item.list')">
    <div class="head"><h2>{{ t('item.list') }}</h2></div>
    <ol>
      <li v-for="item in latest" :key="item.key" v-memo="[item, item.key === chosen]"><button type="button" class="row" :class="[item_class(item), {chosen: item.key === chosen}]"
          :aria-pressed="item.key === chosen" @click="choose(item.key)">
        <img v-if="item.crop" :src="crop(item.key)" alt="" width="40" height="40" loading="lazy"><span v-else class="no-image"></span>
        <span class="id">{{ item.id || '–' }}</span>
        <span class="class">{{ item.outcome ? item.outcome.class || t('count.no_class') : '…' }}</span>
        <span class="lane-sign">{{ item.outcome ? lane_name(item.outcome.lane) : '…' }}</span>
        <span class="right">{{ verdict_sign(item) }}</span></button></li>
    </ol>
  </section>

  <section v-memo="[shown]" class="card detail" :aria-label="t('item.title', {id: shown ? shown.id : ''})" aria-live="polite">
    <template v-if="shown">
      <div class="head"><h2>{{ t('item.title', {id: shown.id}) }}</h2>
        <button type="button" class="close" @click="chosen = null">{{ t('item.close') }}</button></div>
      <div class="pictures">
        <figure><img v-if="shown.crop" :src="crop(shown.key)" :alt="t('item.captured')"><p v-else>{{ t('item.no_picture') }}</p>
          <figcaption>{{ t('item.captured') }}</figcaption></figure>
        <figure v-if="edge_bytes && shown.crop && scene.sees"><img :src="crop(shown.key, edge_bytes)" :alt="t('item.edge_saw', {bytes: number_of(edge_bytes)})">
          <figcaption :title="t('item.edge_saw_why')">{{ t('item.edge_saw', {bytes: number_of(edge_bytes)}) }}</figcaption></figure>
        <p v-else class="hint">{{ edge_bytes ? '' : t('item.no_edge') }}</p>
      </div>
      <dl>
        <template v-for="line in story" :key="line[0]"><dt>{{ t('item.' + line[0]) }}</dt>
          <dd :class="line[2]" :data-detail="line[0]">{{ line[1] }}</dd></template>
      </dl>
      <div class="answers">
        <div v-for="who in ['local', 'edge']" :key="who"><h3>{{ t('item.' + who) }}</h3>
          <p v-if="!shown[who]">{{ t('item.none_given') }}</p>
          <ul v-else class="bars"><li v-for="pair in ranking(shown[who])" :key="pair[0]">
            <span class="bar" :style="{width: 100 * pair[1] + '%'}"></span>
            <span class="label">{{ pair[0] }}</span><span class="share">{{ percent(pair[1]) }}</span></li></ul>
        </div>
      </div>
    </template>
    <p v-else class="hint">{{ t('item.none') }}</p>
  </section>

  <section v-memo="[network, counts.bytes_sent, counts.edge_answers, counts.slack]" class="card network" :aria-label="t('network.title')">
    <div class="head"><h2>{{ t('network.title') }}</h2>
      <span v-if="network" class="pill edge" :class="network.edge_alive ? 'level-0' : 'level-2'"><span class="icon" aria-hidden="true">{{ icon(network.edge_alive ? 0 : 2) }}</span>
        {{ t('network.edge') }}: {{ network.edge_alive ? t('network.alive') : t('network.gone_since', {time: time(network.edge_gone_since)}) }}</span></div>
    <template v-if="network">
      <div class="gauge" role="meter" aria-valuemin="0" :aria-valuemax="network.depth" :aria-valuenow="network.tokens" :aria-label="t('network.tokens')">
        <span class="fill" :style="{width: share(network.tokens, network.depth) + '%'}"></span></div>
      <dl><dt>{{ t('network.tokens') }}</dt><dd>{{ t('network.tokens_of', {tokens: decimal(network.tokens), depth: decimal(network.depth)}) }}
          <small v-if="network.reserved">{{ t('network.reserved', {reserved: decimal(network.reserved)}) }}</small></dd>
        <dt v-if="link_rate">{{ t('network.link') }}</dt><dd v-if="link_rate" data-count="link">{{ link_rate }}</dd>
        <dt>{{ t('network.payload') }} <small>{{ t('network.payload_why') }}</small></dt><dd data-count="payload">{{ t('network.kilobits', {rate: decimal(network.payload)}) }}</dd>
        <dt>{{ t('network.rate') }}</dt><dd>{{ t('network.rate_of', {rate: decimal(network.rate), unit: decimal(network.time_unit)}) }}</dd>
        <dt>{{ t('network.price') }} <small>{{ t('network.price_why') }}</small></dt><dd data-count="price">{{ network.price === null ? '–' : decimal(network.price, 3) }}</dd>
        <dt>{{ t('network.spent') }}</dt><dd>{{ decimal(network.spent) }}</dd>
        <dt>{{ t('count.bytes') }}</dt><dd data-count="bytes_sent">{{ number_of(counts.bytes_sent) }}</dd>
        <dt>{{ t('count.edge_answers') }}</dt><dd data-count="edge_answers">{{ number_of(counts.edge_answers) }}</dd>
        <dt>{{ t('count.slack') }}</dt><dd>{{ counts.slack ? decimal(counts.slack.median, 0) + ' ms (' + t('count.slack_least', {least: decimal(counts.slack.least, 0)}) + ')' : '–' }}</dd></dl>
    </template>
    <p v-else class="hint">{{ t('network.none') }}</p>
  </section>

  <section v-memo="[counts.lanes, counts.purity, counts.yield, counts.rejects, counts.rested > 0]" class="card counts" :aria-label="t('count.lanes')">
    <div class="head"><h2>{{ t('count.lanes') }}</h2></div>
    <table><thead><tr><th scope="col">{{ t('count.lane') }}</th><th scope="col">{{ t('count.items') }}</th>
        <th scope="col" v-if="counts.rested" :title="t('count.purity_why')">{{ t('count.purity') }}</th>
        <th scope="col" v-if="counts.rested" :title="t('count.yield_why')">{{ t('count.yield') }}</th></tr></thead>
      <tbody><tr v-for="lane in bins" :key="lane.name"><th scope="row"><span class="swatch" :class="'lane-' + lane.n" aria-hidden="true"></span>{{ lane_name(lane.name) }}</th>
        <td :data-lane="lane.name">{{ number_of(counts.lanes && counts.lanes[lane.name]) }}</td>
        <td v-for="kind in counts.rested ? ['purity', 'yield'] : []" :key="kind">{{ part_of(counts[kind][lane.name]) }}
          <small>{{ interval(counts[kind][lane.name]) }}</small></td></tr></tbody></table>
    <h3>{{ t('count.rejects') }}</h3>
    <p v-if="!rejects.length" class="hint">{{ t('count.none') }}</p>
    <table v-else><tbody><tr v-for="pair in rejects" :key="pair[0]"><th scope="row">{{ reason(pair[0]) }}</th><td>{{ number_of(pair[1]) }}</td></tr></tbody></table>
  </section>

  <section v-memo="[counts.oee, network && network.time_unit]" class="card oee" :aria-label="t('oee.title')">
    <div class="head"><h2>{{ t('oee.title') }}</h2><span class="big">{{ percent(oee.product) }}</span></div>
    <dl><template v-for="factor in ['availability', 'performance', 'quality']" :key="factor"><dt>{{ t('oee.' + factor) }}
      <small>{{ explain(factor) }}</small></dt><dd>{{ percent(oee[factor]) }}</dd></template></dl>
  </section>

  <section v-memo="[counts.classes]" class="card classes" :aria-label="t('count.classes')">
    <div class="head"><h2>{{ t('count.classes') }}</h2></div>
    <p v-if="!classes.length" class="hint">{{ t('count.none') }}</p>
    <ul class="bars"><li v-for="pair in classes" :key="pair[0]"><span class="bar" :style="{width: 100 * pair[1] / classes[0][1] + '%'}"></span>
      <span class="label">{{ pair[0] || t('count.no_class') }}</span><span class="share" :data-class="pair[0]">{{ number_of(pair[1]) }}</span></li></ul>
  </section>

  <section v-memo="[counts.hours, counts.shifts]" class="card hours" :aria-label="t('count.hours')">
    <div class="head"><h2>{{ t('count.hours') }}</h2><a class="export" :href="csv" download>{{ t('count.export') }}</a></div>
    <div class="scroll"><table><thead><tr><th scope="col">{{ t('count.hour') }}</th><th scope="col">{{ t('count.outcomes') }}</th><th scope="col">{{ t('count.rejected') }}</th>
      <th scope="col">{{ t('count.missed') }}</th><th scope="col">{{ t('count.offloaded') }}</th><th scope="col">{{ t('count.bytes') }}</th>
      <th v-for="factor in factors" :key="factor" scope="col">{{ t(factor === 'oee' ? 'oee.title' : 'oee.' + factor) }}</th></tr></thead>
      <tbody><tr v-for="hour in counts.hours" :key="hour.hour"><th scope="row">{{ hour_text(hour.hour) }}</th><td>{{ number_of(hour.outcomes) }}</td><td>{{ number_of(hour.rejected) }}</td>
        <td>{{ number_of(hour.missed_deadlines) }}</td><td>{{ number_of(hour.offloaded) }}</td><td>{{ number_of(hour.bytes_sent) }}</td>
        <td v-for="factor in factors" :key="factor">{{ percent(hour[factor]) }}</td></tr></tbody></table></div>
    <div class="head"><h2>{{ t('count.shifts') }}</h2><a class="export shifts" :href="shifts_csv" download>{{ t('count.export') }}</a></div>
    <div class="scroll"><table class="shifts"><thead><tr><th scope="col">{{ t('count.shift') }}</th><th scope="col">{{ t('count.outcomes') }}</th><th scope="col">{{ t('count.rejected') }}</th>
      <th scope="col">{{ t('count.missed') }}</th><th v-for="factor in factors" :key="factor" scope="col">{{ t(factor === 'oee' ? 'oee.title' : 'oee.' + factor) }}</th></tr></thead>
      <tbody><tr v-for="shift in counts.shifts" :key="shift.start"><th scope="row">{{ hour_text(shift.start) }}</th><td>{{ number_of(shift.outcomes) }}</td><td>{{ number_of(shift.rejected) }}</td>
        <td>{{ number_of(shift.missed_deadlines) }}</td><td v-for="factor in factors" :key="factor">{{ percent(shift[factor]) }}</td></tr></tbody></table></div>
    <p class="hint">{{ t('oee.formula') }}</p>
  </section>
  </main>
  <dialog ref="login" class="dialog" :aria-label="t('login.in')"><form @submit.prevent="log_in">
    <h2>{{ t('login.in') }}</h2>
    <label>{{ t('login.name') }} <input v-model="credentials.name" name="name" autocomplete="username" required></label>
    <label>{{ t('login.password') }} <input v-model="credentials.password" name="password" type="password" autocomplete="current-password" required></label>
    <p class="refusal" role="alert">{{ login_refusal }}</p>
    <div class="buttons"><button type="button" @click="$refs.login.close()">{{ t('control.no') }}</button><button type="submit" class="apply">{{ t('login.in') }}</button></div>
  </form></dialog>
  <dialog ref="confirm" class="dialog" :aria-label="t('control.sure')"><h2>{{ t('control.sure') }}</h2>
    <p class="asked">{{ asked ? change_text(control.values, asked.values) : '' }}</p>
    <div class="buttons"><button type="button" @click="$refs.confirm.close()">{{ t('control.no') }}</button>
      <button type="button" class="yes apply" @click="make">{{ t('control.yes') }}</button></div></dialog>
</div>`,
  props: {
    scene: Object,
    texts: Object,
    lang: String,
    languages: Array,
    cells: Array,
    number: Number,
    base: String,
    rights: Array,
    user: Object,
    login: Boolean,
    policies: Array,
  },
  emits: ["acknowledge", "all", "change", "undo"],
  data() {
    return {
      items: {},
      belt: { state: "unknown", speed: 0 },
      there: [], // keys of what is on the belt
      counts: {},
      network: null,
      alarms: { open: [], log: [], trouble: "" },
      nodes: [],
      control: { values: {}, changes: [], trouble: "" },
      form: { policy: "", rate: 0, depth: 0, recipe: "" },
      cell_form: null,
      safe: null,
      factors: ["availability", "performance", "quality", "oee"],
      credentials: { name: "", password: "" },
      login_refusal: "",
      asked: null,
      busy: false,
      refusal: "",
      chosen: null,
      heard: 0,
      stale: 0,
      dark: false,
      narrow: false,
      revision: -1,
    };
  },
  computed: {
    camera_name() {
      const { x } = this.scene.camera;
      const place = this.narrow ? this.at(x, this.half + 0.03) : this.at(x, -this.half - 0.03);
      return { ...place, "text-anchor": this.narrow ? "end" : "middle" };
    },
    running() {
      return this.control.values.running;
    },
    recipe_names() {
      const { recipe } = this.control.values;
      const { recipes } = this.control;
      return recipe && !recipes.includes(recipe) ? [recipe, ...recipes] : recipes;
    },
    // What is asked for of costs, purity targets and lanes, and does not hold yet.
    cell_wanted() {
      const held = this.control.values.cell_values;
      const form = this.cell_form;
      if (!held || !form) return {};
      const wanted = {};
      const costs = form.by_cost ? { ...form.costs } : null;
      if (JSON.stringify(costs) !== JSON.stringify(held.costs)) wanted.costs = costs;
      for (const [name, text] of Object.entries(form.purity)) {
        const target = text === "" || text === null ? null : Number(text);
        if (target !== held.purity[name]) (wanted.purity ||= {})[name] = target;
      }
      for (const [name, lane] of Object.entries(form.lanes)) if (lane !== held.lanes[name]) (wanted.lanes ||= {})[name] = lane;
      return wanted;
    },
    // What the form asks for and does not hold yet.
    wanted() {
      const { values } = this.control;
      const changed = ["policy", "rate", "depth"].filter((name) => values[name] !== undefined && values[name] !== this.form[name]);
      return Object.fromEntries(changed.map((name) => [name, this.form[name]]));
    },
    half() {
      return this.scene.belt.width / 2;
    },
    size() {
      return 1000 * Math.min(this.scene.camera.crop, 0.1);
    },
    extent() {
      const { start, end } = this.scene.belt;
      // On a phone the way before the light barrier is left out: nothing is known of items there.
      const from = this.narrow ? Math.max(start, this.scene.barrier - 0.08) : start;
      return [from - 0.02, -this.half - 0.075, end + END + 0.02, this.half + BIN.gap + BIN.depth + 0.02];
    },
    view_box() {
      const [x0, y0, x1, y1] = this.extent.map((metres) => 1000 * metres);
      return this.narrow ? [-y1, x0, y1 - y0, x1 - x0].join(" ") : [x0, y0, x1 - x0, y1 - y0].join(" ");
    },
    bins() {
      const y = this.half + BIN.gap;
      const lanes = this.scene.lanes.map((lane, n) => ({
        name: lane.name,
        label: this.t("belt.lane", { lane: lane.name }),
        n: n % 6,
        x0: lane.x - BIN.before,
        x1: lane.x + BIN.behind - 0.02,
        y0: y,
        y1: y + BIN.depth,
      }));
      const { end } = this.scene.belt;
      return [
        ...lanes,
        { name: this.scene.reject, label: this.t("belt.reject"), n: "reject", x0: end + BIN.gap, x1: end + END, y0: -this.half, y1: this.half },
      ];
    },
    sorted() {
      return Object.values(this.items).sort((a, b) => b.at - a.at);
    },
    latest() {
      return this.sorted.slice(0, 24);
    },
    on_belt() {
      const there = new Set(this.there);
      return this.sorted.filter((item) => there.has(item.key) && (item.id || item.outcome));
    },
    shown() {
      return this.chosen === null ? null : this.items[this.chosen] || null;
    },
    edge_bytes() {
      const item = this.shown;
      return item ? (item.edge && item.edge.bytes) || item.bytes || 0 : 0;
    },
    // Only an emulated link says how fast it is.
    link_rate() {
      if (this.network.unlimited) return this.t("network.unlimited");
      return this.network.link === null ? "" : this.t("network.kilobits", { rate: this.decimal(this.network.link, 1) });
    },
    oee() {
      return this.counts.oee || {};
    },
    worst() {
      const alarms = this.alarms.open.filter((alarm) => !alarm.ended).map((alarm) => alarm.level);
      return Math.min(2, Math.max(0, ...alarms, ...this.nodes.map((node) => node.level)));
    },
    alarm_level() {
      return Math.max(0, ...this.alarms.open.map((alarm) => alarm.level));
    },
    alarm_text() {
      const count = this.alarms.open.length;
      return count === 0 ? this.t("alarm.none") : count === 1 ? this.t("alarm.one") : this.t("alarm.open", { count });
    },
    motion() {
      const { state, speed } = this.belt;
      if (state === "stopped" || state === "unknown") return this.t("belt." + state);
      return `${this.t("belt.speed", { speed: this.decimal(speed) })} (${this.t("belt." + state)})`;
    },
    figures() {
      const c = this.counts;
      const part = (count, whole) => (whole ? this.percent(count / whole) : "");
      const made = [
        { name: "outcomes", label: this.t("count.outcomes"), value: this.number_of(c.outcomes), more: "" },
        { name: "per_minute", label: this.t("count.per_minute"), value: this.decimal(c.per_minute, 0), more: "" },
        { name: "rejected", label: this.t("count.rejected"), value: this.number_of(c.rejected), more: part(c.rejected, c.outcomes) },
        {
          name: "missed_deadlines",
          label: this.t("count.missed"),
          value: this.number_of(c.missed_deadlines),
          more: c.missed_deadlines ? "" : "✓",
          kind: c.missed_deadlines ? "bad" : "good",
        },
        { name: "offloaded", label: this.t("count.offloaded"), value: this.number_of(c.offloaded), more: part(c.offloaded, c.outcomes) },
      ];
      if (c.rested)
        made.push({ name: "correct", label: this.t("count.correct"), value: this.number_of(c.correct), more: `${part(c.correct, c.rested)}${c.lost ? ` · ${this.t("count.lost")}: ${this.number_of(c.lost)}` : ""}` });
      return made;
    },
    rejects() {
      return Object.entries(this.counts.rejects || {}).sort((a, b) => b[1] - a[1]);
    },
    classes() {
      return Object.entries(this.counts.classes || {}).sort((a, b) => b[1] - a[1]);
    },
    shifts_csv() {
      return `${this.base}/shifts.csv`;
    },
    csv() {
      return `${this.base}/hours.csv`;
    },
    // What is told of the chosen item, line by line: name, text, how it looks.
    story() {
      const { outcome, decision, stroke, truth, bytes } = this.shown;
      const lines = [];
      if (outcome) {
        lines.push(["lane", this.lane_name(outcome.lane)]);
        lines.push(["class", outcome.class ? `${outcome.class} (${this.percent(outcome.score)})` : this.t("count.no_class")]);
        lines.push(["decided_by", this.t("source." + outcome.source)]);
        // The words of the node are English; they tell more where several things came together.
        const several = outcome.detail.includes("; ") ? ` (${outcome.detail})` : "";
        lines.push(["why", this.reason(outcome.reason) + several]);
        const slack = `${this.decimal(outcome.slack, 0)} ms`;
        lines.push(["slack", outcome.missed ? `${slack} – ${this.t("item.missed")}` : slack, outcome.missed ? "wrong" : ""]);
        lines.push(["unknown", `${this.decimal(outcome.unknown, 2)} – ${this.t("item.unknown_why")}`]);
        if (outcome.cost) lines.push(["cost", this.decimal(outcome.cost, 3)]);
      }
      if (decision) {
        const asks = decision.threshold !== null; // a policy without a price asks for nothing
        const gain = this.t(asks ? "item.gain" : "item.gain_alone", { reward: this.decimal(decision.reward, 3), threshold: this.decimal(decision.threshold, 3) });
        const why = this.text_or("decision." + decision.reason, String(decision.reason));
        lines.push(["offloaded", `${this.t(decision.offload ? "item.yes" : "item.no")}: ${why}; ${gain}`]);
        lines.push(["tokens", this.decimal(decision.tokens)]);
        if (decision.offload)
          lines.push(["bytes", this.t("item.bytes_of", { bytes: this.number_of(bytes || 0), budget: this.number_of(decision.budget) })]);
      }
      if (stroke) lines.push(["stroke", `${this.text_or("stroke." + stroke.status, "?")}${stroke.detail ? ": " + stroke.detail : ""}`, stroke.status === 1 ? "" : "wrong"]);
      if (truth) {
        lines.push(["truth", `${truth.class} → ${this.lane_name(truth.lane)}`]);
        const right = truth.rest === truth.lane;
        const where = truth.rest === "lost" ? this.t("item.lost") : this.lane_name(truth.rest);
        lines.push(["rests", truth.rest ? `${where}: ${this.t(right ? "item.right" : "item.wrong")}` : this.t("item.waiting"), truth.rest && !right ? "wrong" : ""]);
      }
      return lines;
    },
  },
  methods: {
    // What the server tells.
    take(news) {
      this.heard = performance.now();
      this.stale = 0;
      if (news.revision < this.revision) this.items = {}; // another run of the server
      this.revision = news.revision;
      const { places, speed, state } = news.belt;
      this.places = new Map(places);
      this.belt = same(this.belt, { speed, state });
      this.there = same(this.there, places.map(([key]) => key));
      if (news.items) {
        for (const item of news.items) this.items[item.key] = Object.freeze(item);
        const kept = this.sorted.slice(0, SHOWN);
        if (this.sorted.length > SHOWN) this.items = Object.fromEntries(kept.map((item) => [item.key, item]));
      }
      // Another cell description: lanes, bins and classes are drawn anew.
      if (news.scene && JSON.stringify(news.scene) !== JSON.stringify(this.scene)) {
        window.location.reload();
        return;
      }
      if (news.counts) {
        const counts = { ...this.counts };
        for (const [name, count] of Object.entries(news.counts)) counts[name] = same(counts[name], count);
        this.counts = Object.freeze(counts);
      }
      for (const name of ["network", "alarms", "nodes", "safe", "control"]) if (news[name] !== undefined) this[name] = same(this[name], news[name]);
      if (news.control) this.fill_form();
      this.$nextTick(() => {
        this.move();
        this.animate();
      });
    },
    // A change came to its end: an empty text if it was made, else why not.
    refused(why) {
      this.busy = false;
      this.refusal = why === "login" ? this.t("login.again") : why;
    },
    // What others change shows in the form, unless somebody is just writing there.
    fill_form() {
      const before = this.filled || {};
      for (const name of ["policy", "rate", "depth", "recipe"]) {
        const value = this.control.values[name];
        if (value !== undefined && (before[name] === undefined || this.form[name] === before[name])) this.form[name] = value;
      }
      const held = this.control.values.cell_values;
      if (held && JSON.stringify(held) !== JSON.stringify(before.cell_values)) {
        this.cell_form = {
          by_cost: held.costs !== null,
          costs: { wrong: 1, reject: 0.5, foreign: 1, ...held.costs },
          purity: Object.fromEntries(Object.entries(held.purity).map(([name, target]) => [name, target ?? ""])),
          lanes: { ...held.lanes },
        };
      }
      this.filled = { ...this.control.values };
    },
    // Drawing. One place turns metres into the picture: the belt lies across, or along on a phone.
    xy(x, y) {
      return this.narrow ? [-1000 * y, 1000 * x] : [1000 * x, 1000 * y];
    },
    box(x0, y0, x1, y1) {
      const [a, b] = this.xy(x0, y0);
      const [c, d] = this.xy(x1, y1);
      return { x: Math.min(a, c), y: Math.min(b, d), width: Math.abs(c - a), height: Math.abs(d - b) };
    },
    at(x, y) {
      const [a, b] = this.xy(x, y);
      return { x: a, y: b };
    },
    segment(x0, y0, x1, y1) {
      const [a, b] = this.xy(x0, y0);
      const [c, d] = this.xy(x1, y1);
      return { x1: a, y1: b, x2: c, y2: d };
    },
    place_text(lane, line = 0) {
      // An item comes to lie in the far part of a bin, beside the text.
      const part = lane.n === "reject" ? 0.5 : 0.32;
      const [x, y] = this.xy(lane.x0 + part * (lane.x1 - lane.x0), (lane.y0 + lane.y1) / 2);
      return { x, y: y + (line ? 46 : -16) };
    },
    move() {
      const { speed } = this.belt;
      const nodes = this.$refs.belt ? this.$refs.belt.querySelectorAll("g.item") : [];
      const since = Math.min((performance.now() - this.heard) / 1000, 1.0);
      for (const node of nodes) {
        const start = this.places.get(node.dataset.key);
        const item = this.items[node.dataset.key];
        if (start === undefined || !item) continue;
        const [x, y, opacity, scale] = this.where(start + speed * since, item);
        const [a, b] = this.xy(x, y);
        node.setAttribute("transform", `translate(${a.toFixed(1)},${b.toFixed(1)}) scale(${scale.toFixed(2)})`);
        node.style.opacity = opacity;
      }
    },
    // Moves what moves, until nothing does. A picture without a graphics processor costs the machine
    // that shows it, which may be the one that sorts: where it comes late, the next one waits longer.
    animate() {
      if (this.still || this.frame || !this.moves()) return;
      const due = performance.now() + this.pause;
      this.frame = setTimeout(() => {
        requestAnimationFrame(() => {
          const late = performance.now() - due - REFRESH_MS;
          this.pause = Math.min(Math.max(REST * late, FRAME_MS), LONGEST_FRAME_MS);
          this.frame = 0;
          this.move();
          this.animate();
        });
      }, this.pause);
    },
    moves() {
      return this.on_belt.length > 0 && this.belt.speed !== 0;
    },
    // Where an item is drawn whose place on the belt would be x.
    where(x, item) {
      const lane = item.outcome && this.scene.lanes.find((each) => each.name === item.outcome.lane);
      const pushed = lane && !(item.stroke && item.stroke.status > 1);
      const { end } = this.scene.belt;
      if (pushed && x > lane.x) {
        const done = Math.min((x - lane.x) / PUSH_M, 1);
        const fade = 1 - Math.max(0, Math.min((x - lane.x - 0.35) / 0.15, 1));
        const x_bin = lane.x - BIN.before + 0.76 * (BIN.before + BIN.behind - 0.02);
        const y = done * (this.half + BIN.gap + BIN.depth / 2);
        return [lane.x + (x_bin - lane.x) * done, y, fade, 1 - 0.35 * done];
      }
      if (x > end) {
        const fade = 1 - Math.max(0, Math.min((x - end - 0.3) / 0.15, 1));
        return [Math.min(x, end + END * 0.82), -this.half / 2, fade, 0.6];
      }
      return [x, 0, 1, 1];
    },
    // Words.
    t(name, values = {}) {
      let text = this.texts[name] === undefined ? name : this.texts[name];
      for (const [key, value] of Object.entries(values)) text = text.split(`{${key}}`).join(value);
      return text;
    },
    text_or(name, other) {
      return this.texts[name] === undefined ? other : this.texts[name];
    },
    reason(number) {
      return this.text_or("reason." + number, this.t("reason.other", { number }));
    },
    lane_name(lane) {
      return lane === this.scene.reject ? this.t("belt.reject") : lane;
    },
    level(number) {
      return LEVELS[number] || "error";
    },
    icon(number) {
      return ICONS[number] || ICONS[2];
    },
    sign(item) {
      return item.outcome.lane === this.scene.reject ? "✕" : item.outcome.lane.slice(0, 2);
    },
    verdict_sign(item) {
      const { truth, outcome } = item;
      if (truth && truth.rest) return truth.rest === truth.lane ? "✓" : "✗";
      return outcome && outcome.missed ? "!" : "";
    },
    item_class(item) {
      if (!item.outcome) return "lane-open";
      const n = this.scene.lanes.findIndex((lane) => lane.name === item.outcome.lane);
      return n < 0 ? "lane-reject" : `lane-${n % 6}`;
    },
    describe(item) {
      if (!item.outcome) return `${this.t("belt.item", { id: item.id })}, ${this.t("belt.undecided")}`;
      return this.t("belt.describe", { id: item.id, class: item.outcome.class || this.t("count.no_class"), lane: this.lane_name(item.outcome.lane) });
    },
    ranking(answer) {
      return answer.ranking.length ? answer.ranking : [[answer.class, answer.score]];
    },
    explain(factor) {
      const unit = this.network ? this.decimal(this.network.time_unit) : "?";
      if (factor === "quality" && this.oee.truth) return this.t("oee.quality_truth_why");
      return this.t(`oee.${factor}_why`, { unit });
    },
    number_of(value) {
      return value === undefined || value === null ? "–" : writer(Intl.NumberFormat, this.lang, {}).format(value);
    },
    decimal(value, digits = 2) {
      if (value === undefined || value === null) return "–";
      return writer(Intl.NumberFormat, this.lang, { maximumFractionDigits: digits }).format(value);
    },
    percent(share) {
      if (share === undefined || share === null) return "–";
      return writer(Intl.NumberFormat, this.lang, { style: "percent", maximumFractionDigits: 1 }).format(share);
    },
    part_of(share) {
      return share && share.whole ? this.percent(share.part / share.whole) : "–";
    },
    interval(share) {
      if (!share || !share.whole) return "";
      return `${this.decimal(100 * Math.max(share.low, 0), 0)}–${this.decimal(100 * Math.min(share.high, 1), 0)} %`;
    },
    share(part, whole) {
      return whole ? Math.max(0, Math.min(100, (100 * part) / whole)) : 0;
    },
    time(ms) {
      const date = new Date(ms);
      const day = date.toDateString() === new Date().toDateString() ? {} : { day: "2-digit", month: "2-digit" };
      return writer(Intl.DateTimeFormat, this.lang, { hour: "2-digit", minute: "2-digit", second: "2-digit", ...day }).format(date);
    },
    hour_text(ms) {
      return writer(Intl.DateTimeFormat, this.lang, { day: "2-digit", month: "2-digit", hour: "2-digit", minute: "2-digit" }).format(new Date(ms));
    },
    crop(key, bytes) {
      return bytes ? `${this.base}/items/${key}/edge.png?bytes=${bytes}` : `${this.base}/items/${key}/captured.png`;
    },
    // What people do.
    choose(key) {
      this.chosen = key === this.chosen ? null : key;
    },
    ask(values, undoes) {
      this.asked = { values: { ...values }, undoes: undoes ? undoes.number : 0 };
      this.$refs.confirm.showModal();
    },
    make() {
      this.$refs.confirm.close();
      this.busy = true;
      this.refusal = "";
      if (this.asked.undoes) this.$emit("undo", this.asked.undoes);
      else this.$emit("change", this.asked.values);
    },
    can_undo(change) {
      if (change.failed || !Object.keys(change.before).length) return false;
      if (this.control.changes.some((other) => other.undoes === change.number && !other.failed)) return false;
      return Object.keys(change.after).every((name) => this.rights.includes({ running: "run", recipe: "recipe", cell_values: "recipe" }[name] || "policy"));
    },
    value_text(name, value) {
      if (name === "running") return this.t(value ? "control.runs" : "control.paused");
      return typeof value === "number" ? this.decimal(value, 4) : String(value === undefined ? "?" : value);
    },
    change_text(before, after) {
      const names = Object.keys(after);
      return names.map((name) => name === "cell_values" ? this.cell_text(before[name] || {}, after[name]) : `${this.t("control." + name)}: ${this.value_text(name, before[name])} → ${this.value_text(name, after[name])}`).join(", ");
    },
    // What differs of costs, purity targets and lanes, each by its name.
    cell_text(before, after) {
      const shown = (value) => (value === null || value === undefined ? "–" : value);
      const lines = [];
      for (const part of ["costs", "purity", "lanes"]) {
        if (after[part] === undefined) continue;
        const [old, now] = [before[part] || {}, after[part] || {}];
        const names = after[part] === null ? Object.keys(old) : Object.keys(now);
        for (const name of names.filter((each) => old[each] !== now[each])) {
          const label = part === "costs" ? this.t("control.cost_" + name) : part === "purity" ? `${this.t("control.purity")} ${name}` : name;
          lines.push(`${label}: ${shown(old[name])} → ${shown(now[name])}`);
        }
      }
      return lines.join(", ") || this.t("control.cell_values");
    },
    async log_in() {
      const body = JSON.stringify(this.credentials);
      const answer = await fetch("/session", { method: "POST", headers: { "Content-Type": "application/json" }, body });
      this.credentials.password = "";
      if (answer.ok) window.location.reload();
      else this.login_refusal = this.t("login.refused");
    },
    async log_out() {
      await fetch("/session", { method: "DELETE" });
      window.location.reload();
    },
    choose_language(code) {
      const address = new URL(window.location.href);
      address.searchParams.set("lang", code);
      window.location.assign(address);
    },
    switch_appearance() {
      this.set_appearance(!this.dark);
      try {
        localStorage.setItem("appearance", this.dark ? "dark" : "light");
      } catch (error) {
        // A browser that keeps nothing forgets this, too.
      }
    },
    set_appearance(dark) {
      this.dark = dark;
      document.documentElement.dataset.appearance = dark ? "dark" : "light";
    },
    fit() {
      this.narrow = this.phone.matches;
    },
  },
  created() {
    let kept = null;
    try {
      kept = localStorage.getItem("appearance");
    } catch (error) {
      kept = null;
    }
    this.set_appearance(kept ? kept === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
    document.documentElement.lang = this.lang;
    this.phone = matchMedia("(max-width: 700px)");
    this.fit();
    // What is drawn by hand is none of Vue's data: a change of it draws nothing anew.
    this.places = new Map();
    this.frame = 0;
    this.pause = FRAME_MS;
    this.still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  },
  mounted() {
    this.phone.addEventListener("change", this.fit);
    this.began = performance.now();
    this.clock = setInterval(() => {
      const age = performance.now() - (this.heard || this.began);
      this.stale = age > STALE_MS ? Math.round(age / 1000) : 0;
    }, 500);
    this.$emit("all");
  },
  beforeUnmount() {
    this.still = true;
    clearInterval(this.clock);
    this.phone.removeEventListener("change", this.fit);
  },
};
