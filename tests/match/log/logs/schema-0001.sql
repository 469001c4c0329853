BEGIN TRANSACTION;
CREATE TABLE artifact (
	id INTEGER NOT NULL, 
	episode_id VARCHAR(12) NOT NULL, 
	kind VARCHAR(255) NOT NULL, 
	path TEXT NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	bytes BIGINT NOT NULL, 
	meta JSON, 
	CONSTRAINT pk_artifact PRIMARY KEY (id), 
	CONSTRAINT fk_artifact_episode_id_episode FOREIGN KEY(episode_id) REFERENCES episode (id) ON DELETE CASCADE
);
CREATE TABLE checkpoint (
	episode_id VARCHAR(12) NOT NULL, 
	"index" INTEGER NOT NULL, 
	queries_used BIGINT NOT NULL, 
	clone_accuracy DOUBLE, 
	clone_fidelity DOUBLE, 
	wall_seconds DOUBLE, 
	metrics JSON, 
	CONSTRAINT pk_checkpoint PRIMARY KEY (episode_id, "index"), 
	CONSTRAINT fk_checkpoint_episode_id_episode FOREIGN KEY(episode_id) REFERENCES episode (id) ON DELETE CASCADE
);
INSERT INTO "checkpoint" VALUES('97e52f518936',0,128,6.66666666666666657414e-02,4.33333333333333348136e-02,3.79647755999940272886e-01,'{}');
INSERT INTO "checkpoint" VALUES('97e52f518936',1,256,5.16666666666666662965e-02,0.065,1.18886349500007781898e+00,'{}');
INSERT INTO "checkpoint" VALUES('97e52f518936',2,384,8.66666666666666696272e-02,4.01666666666666671847e-01,2.12773199799994472414e+00,'{}');
INSERT INTO "checkpoint" VALUES('97e52f518936',3,500,8.66666666666666696272e-02,3.71666666666666645202e-01,3.1700146149999,'{}');
INSERT INTO "checkpoint" VALUES('c56045f99ce9',0,128,1.41666666666666662965e-01,2.28333333333333332593e-01,3.48009838000052695861e-01,'{}');
INSERT INTO "checkpoint" VALUES('c56045f99ce9',1,256,0.14,3.03333333333333343695e-01,4.98288949999960095738e-01,'{}');
INSERT INTO "checkpoint" VALUES('c56045f99ce9',2,384,0.135,3.3833333333333331927e-01,7.25765335999994931626e-01,'{}');
INSERT INTO "checkpoint" VALUES('c56045f99ce9',3,500,0.045,1.66666666666666657414e-01,2.5949559760001648101e+00,'{}');
INSERT INTO "checkpoint" VALUES('f995d0f2b614',0,210,0.07,4.33333333333333348136e-02,1.79782365100004426494e+00,'{}');
INSERT INTO "checkpoint" VALUES('f995d0f2b614',1,282,0.07,4.33333333333333348136e-02,3.41881660500007455993e+00,'{}');
INSERT INTO "checkpoint" VALUES('f995d0f2b614',3,500,0.08,3.63333333333333341474e-01,2.93281591780000781008e+01,'{"exits":1.0,"repeats":1.0}');
INSERT INTO "checkpoint" VALUES('af0f17276570',0,210,1.38333333333333335923e-01,0.195,4.21501379200003611913e+00,'{}');
INSERT INTO "checkpoint" VALUES('af0f17276570',1,282,1.38333333333333335923e-01,0.195,4.94999012700009188847e+00,'{}');
INSERT INTO "checkpoint" VALUES('af0f17276570',3,500,1.16666666666666668517e-01,2.83333333333333325931e-01,3.18138216620000093817e+01,'{"exits":1.0,"repeats":1.0}');
CREATE TABLE episode (
	id VARCHAR(12) NOT NULL, 
	run_id VARCHAR(12) NOT NULL, 
	scenario_name VARCHAR(255) NOT NULL, 
	kind VARCHAR(255) NOT NULL, 
	seed BIGINT NOT NULL, 
	attacker VARCHAR(255) NOT NULL, 
	defender VARCHAR(255) NOT NULL, 
	victim VARCHAR(255) NOT NULL, 
	clone VARCHAR(255) NOT NULL, 
	data VARCHAR(255) NOT NULL, 
	status VARCHAR(255) NOT NULL, 
	error TEXT, 
	started DATETIME NOT NULL, 
	finished DATETIME, 
	wall_seconds DOUBLE, 
	budget BIGINT, 
	queries_used BIGINT, 
	attack_answered BIGINT, 
	benign_answered BIGINT, 
	clone_accuracy DOUBLE, 
	clone_fidelity DOUBLE, 
	victim_accuracy DOUBLE, 
	served_accuracy DOUBLE, 
	served_agreement DOUBLE, 
	distortion_mean DOUBLE, 
	distortion_p95 DOUBLE, 
	attack_macs_mean DOUBLE, 
	benign_macs_mean DOUBLE, 
	full_macs BIGINT, 
	attack_compute_share DOUBLE, 
	benign_compute_share DOUBLE, 
	attack_seconds_mean DOUBLE, 
	benign_seconds_mean DOUBLE, 
	energy_joules DOUBLE, 
	harden_seconds DOUBLE, 
	query_digest VARCHAR(255), 
	answer_digest VARCHAR(255), 
	pid BIGINT NOT NULL, 
	host VARCHAR(255) NOT NULL, 
	process_started DOUBLE NOT NULL, 
	device VARCHAR(255), 
	git_commit VARCHAR(255), 
	versions JSON, 
	plan_hash VARCHAR(255) NOT NULL, 
	attacker_params JSON, 
	defender_params JSON, 
	"plan" JSON, 
	CONSTRAINT pk_episode PRIMARY KEY (id), 
	CONSTRAINT fk_episode_run_id_run FOREIGN KEY(run_id) REFERENCES run (id) ON DELETE CASCADE
);
INSERT INTO "episode" VALUES('97e52f518936','ef889e3333c7','tiny','play',0,'noise','undefended','conv-small','mlp-small','digits','success',NULL,'2026-11-26 00:56:00.752638','2026-11-26 00:56:23.757259',2.30032714680000935922e+01,500,500,500,166,8.66666666666666696272e-02,3.71666666666666645202e-01,0.36,0.36,1.0,0.0,0.0,116352.0,116352.0,116352,1.0,1.0,2.19112228399944786519e-03,5.19187934337122635602e-03,NULL,3.60995389999061444541e-02,'e2af15ee57215b92','b9ea3ed9a1f1585a',13708,'elsewhere',1795654549.83,'cpu',NULL,'{"python":"3.11.7","fortress-arena":"0.1.0","torch":"2.14.1","torchvision":"0.29.1","numpy":"2.4.6","gymnasium":"1.4.0","scikit-learn":"1.9.1"}','b8d1d89231d81e88','{"batch":null,"clone_rate":null,"loss":"auto"}','{"name":"undefended","use":"static","policy":{"post":0,"strength":1.0},"code":"","defence":[{"use":"undefended","params":{},"code":""}]}','{"rules":1,"seed":0,"data":{"use":"digits","params":{},"root":null,"download":false},"victim":{"use":"conv-small","params":{},"recipe":{"epochs":1},"seed":null},"clone":{"use":"mlp-small","params":{}},"threat":{"budget":500,"labels":"soft","latency":"virtual","pool":null},"latency":{},"traffic":{"benign":0.25,"ood_share":0.0,"ood":null,"clients":1},"attacker":{"use":"noise","params":{"batch":null,"clone_rate":null,"loss":"auto"},"code":"","name":"noise"},"defender":{"name":"undefended","use":"static","policy":{"post":0,"strength":1.0},"code":"","defence":[{"use":"undefended","params":{},"code":""}]},"checkpoints":4,"record":"digests"}');
INSERT INTO "episode" VALUES('c56045f99ce9','ef889e3333c7','tiny','play',1,'noise','undefended','conv-small','mlp-small','digits','success',NULL,'2026-11-26 00:56:23.791039','2026-11-26 00:56:35.534640',1.17263541659999646069e+01,500,500,500,166,0.045,1.66666666666666657414e-01,0.25,0.25,1.0,0.0,0.0,116352.0,116352.0,116352,1.0,1.0,1.2603107000004455749e-03,3.73868857228849956961e-03,NULL,3.99527160000161529751e-02,'35bd92696494adcb','585f4c49cd3d40ec',13708,'elsewhere',1795654549.83,'cpu',NULL,'{"python":"3.11.7","fortress-arena":"0.1.0","torch":"2.14.1","torchvision":"0.29.1","numpy":"2.4.6","gymnasium":"1.4.0","scikit-learn":"1.9.1"}','f97fb8db22faa82c','{"batch":null,"clone_rate":null,"loss":"auto"}','{"name":"undefended","use":"static","policy":{"post":0,"strength":1.0},"code":"","defence":[{"use":"undefended","params":{},"code":""}]}','{"rules":1,"seed":1,"data":{"use":"digits","params":{},"root":null,"download":false},"victim":{"use":"conv-small","params":{},"recipe":{"epochs":1},"seed":null},"clone":{"use":"mlp-small","params":{}},"threat":{"budget":500,"labels":"soft","latency":"virtual","pool":null},"latency":{},"traffic":{"benign":0.25,"ood_share":0.0,"ood":null,"clients":1},"attacker":{"use":"noise","params":{"batch":null,"clone_rate":null,"loss":"auto"},"code":"","name":"noise"},"defender":{"name":"undefended","use":"static","policy":{"post":0,"strength":1.0},"code":"","defence":[{"use":"undefended","params":{},"code":""}]},"checkpoints":4,"record":"digests"}');
INSERT INTO "episode" VALUES('f995d0f2b614','ef889e3333c7','tiny','play',0,'exit-timing','undefended','conv-small','mlp-small','digits','success',NULL,'2026-11-26 00:56:35.563753','2026-11-26 00:57:05.633818',3.00691089360000205496e+01,500,500,500,166,0.08,3.63333333333333341474e-01,0.36,0.36,1.0,0.0,0.0,116352.0,116352.0,116352,1.0,1.0,1.20943546599983162842e-03,1.97624680120371933392e-03,NULL,3.55785149999974237289e-02,'ba6b117737244273','880979a1d2a5e5b2',13708,'elsewhere',1795654549.83,'cpu',NULL,'{"python":"3.11.7","fortress-arena":"0.1.0","torch":"2.14.1","torchvision":"0.29.1","numpy":"2.4.6","gymnasium":"1.4.0","scikit-learn":"1.9.1"}','7c7a73c6004e38d4','{"deepest_only":false,"hardware":null,"least_confidence":0.6,"most_probes":20000}','{"name":"undefended","use":"static","policy":{"post":0,"strength":1.0},"code":"","defence":[{"use":"undefended","params":{},"code":""}]}','{"rules":1,"seed":0,"data":{"use":"digits","params":{},"root":null,"download":false},"victim":{"use":"conv-small","params":{},"recipe":{"epochs":1},"seed":null},"clone":{"use":"mlp-small","params":{}},"threat":{"budget":500,"labels":"soft","latency":"virtual","pool":null},"latency":{},"traffic":{"benign":0.25,"ood_share":0.0,"ood":null,"clients":1},"attacker":{"use":"exit-timing","params":{"deepest_only":false,"hardware":null,"least_confidence":0.6,"most_probes":20000},"code":"","name":"exit-timing"},"defender":{"name":"undefended","use":"static","policy":{"post":0,"strength":1.0},"code":"","defence":[{"use":"undefended","params":{},"code":""}]},"checkpoints":4,"record":"digests"}');
INSERT INTO "episode" VALUES('af0f17276570','ef889e3333c7','tiny','play',1,'exit-timing','undefended','conv-small','mlp-small','digits','success',NULL,'2026-11-26 00:57:05.714471','2026-11-26 00:57:39.144830',3.342933289200004765e+01,500,500,500,166,1.16666666666666668517e-01,2.83333333333333325931e-01,0.25,0.25,1.0,0.0,0.0,116352.0,116352.0,116352,1.0,1.0,2.76813530399931543093e-03,4.75773460240942400178e-03,NULL,3.05300689999512542271e-02,'61dcfc488b64c99a','ad3102b6e2ac1249',13708,'elsewhere',1795654549.83,'cpu',NULL,'{"python":"3.11.7","fortress-arena":"0.1.0","torch":"2.14.1","torchvision":"0.29.1","numpy":"2.4.6","gymnasium":"1.4.0","scikit-learn":"1.9.1"}','7863f0decadf9140','{"deepest_only":false,"hardware":null,"least_confidence":0.6,"most_probes":20000}','{"name":"undefended","use":"static","policy":{"post":0,"strength":1.0},"code":"","defence":[{"use":"undefended","params":{},"code":""}]}','{"rules":1,"seed":1,"data":{"use":"digits","params":{},"root":null,"download":false},"victim":{"use":"conv-small","params":{},"recipe":{"epochs":1},"seed":null},"clone":{"use":"mlp-small","params":{}},"threat":{"budget":500,"labels":"soft","latency":"virtual","pool":null},"latency":{},"traffic":{"benign":0.25,"ood_share":0.0,"ood":null,"clients":1},"attacker":{"use":"exit-timing","params":{"deepest_only":false,"hardware":null,"least_confidence":0.6,"most_probes":20000},"code":"","name":"exit-timing"},"defender":{"name":"undefended","use":"static","policy":{"post":0,"strength":1.0},"code":"","defence":[{"use":"undefended","params":{},"code":""}]},"checkpoints":4,"record":"digests"}');
CREATE TABLE event (
	id INTEGER NOT NULL, 
	episode_id VARCHAR(12), 
	time DATETIME NOT NULL, 
	queries_used BIGINT, 
	kind VARCHAR(255) NOT NULL, 
	message TEXT NOT NULL, 
	data JSON, 
	CONSTRAINT pk_event PRIMARY KEY (id), 
	CONSTRAINT fk_event_episode_id_episode FOREIGN KEY(episode_id) REFERENCES episode (id) ON DELETE CASCADE
);
CREATE TABLE inference (
	id INTEGER NOT NULL, 
	episode_id VARCHAR(12) NOT NULL, 
	attribute VARCHAR(255) NOT NULL, 
	inferred JSON, 
	truth JSON, 
	correct BOOLEAN, 
	confidence DOUBLE, 
	CONSTRAINT pk_inference PRIMARY KEY (id), 
	CONSTRAINT fk_inference_episode_id_episode FOREIGN KEY(episode_id) REFERENCES episode (id) ON DELETE CASCADE
);
INSERT INTO "inference" VALUES(1,'f995d0f2b614','family',NULL,'"cnn"',NULL,NULL);
INSERT INTO "inference" VALUES(2,'f995d0f2b614','architecture',NULL,'"conv-small"',NULL,NULL);
INSERT INTO "inference" VALUES(3,'f995d0f2b614','depth',NULL,4,NULL,NULL);
INSERT INTO "inference" VALUES(4,'f995d0f2b614','width',NULL,16,NULL,NULL);
INSERT INTO "inference" VALUES(5,'f995d0f2b614','exits_visited',NULL,NULL,NULL,NULL);
INSERT INTO "inference" VALUES(6,'f995d0f2b614','exits',NULL,1,NULL,NULL);
INSERT INTO "inference" VALUES(7,'f995d0f2b614','exit_costs',NULL,'[1.0]',NULL,NULL);
INSERT INTO "inference" VALUES(8,'f995d0f2b614','thresholds',NULL,NULL,NULL,NULL);
INSERT INTO "inference" VALUES(9,'af0f17276570','family',NULL,'"cnn"',NULL,NULL);
INSERT INTO "inference" VALUES(10,'af0f17276570','architecture',NULL,'"conv-small"',NULL,NULL);
INSERT INTO "inference" VALUES(11,'af0f17276570','depth',NULL,4,NULL,NULL);
INSERT INTO "inference" VALUES(12,'af0f17276570','width',NULL,16,NULL,NULL);
INSERT INTO "inference" VALUES(13,'af0f17276570','exits_visited',NULL,NULL,NULL,NULL);
INSERT INTO "inference" VALUES(14,'af0f17276570','exits',NULL,1,NULL,NULL);
INSERT INTO "inference" VALUES(15,'af0f17276570','exit_costs',NULL,'[1.0]',NULL,NULL);
INSERT INTO "inference" VALUES(16,'af0f17276570','thresholds',NULL,NULL,NULL,NULL);
CREATE TABLE log_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT log_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "log_version" VALUES('0001');
CREATE TABLE round (
	episode_id VARCHAR(12) NOT NULL, 
	bucket INTEGER NOT NULL, 
	first_round BIGINT NOT NULL, 
	rounds BIGINT NOT NULL, 
	attack_answered BIGINT NOT NULL, 
	benign_answered BIGINT NOT NULL, 
	queries_used BIGINT NOT NULL, 
	attack_exits JSON, 
	benign_exits JSON, 
	attack_macs BIGINT NOT NULL, 
	benign_macs BIGINT NOT NULL, 
	attack_seconds DOUBLE, 
	benign_seconds DOUBLE, 
	benign_correct BIGINT NOT NULL, 
	query_digest VARCHAR(255), 
	answer_digest VARCHAR(255), 
	countermeasure JSON, 
	CONSTRAINT pk_round PRIMARY KEY (episode_id, bucket), 
	CONSTRAINT fk_round_episode_id_episode FOREIGN KEY(episode_id) REFERENCES episode (id) ON DELETE CASCADE
);
INSERT INTO "round" VALUES('97e52f518936',0,0,1,64,21,64,'[64]','[21]',7446528,2443392,0.000997669999833306,2.30454464999866104335e-01,8,'54f1d7ca752bfd05','95fb10adea217576',NULL);
INSERT INTO "round" VALUES('97e52f518936',12,1,1,64,21,128,'[64]','[21]',7446528,2443392,8.89270000016040285117e-04,9.27618809998875804012e-02,7,'5c4b0e5e22530b8a','81800280b5fbe958',NULL);
INSERT INTO "round" VALUES('97e52f518936',25,2,1,64,22,192,'[64]','[22]',7446528,2559744,2.55896740000025602057e-01,1.56570316999932401813e-01,8,'fa8f42fe70466d25','8259e39fc0bddd3f',NULL);
INSERT INTO "round" VALUES('97e52f518936',38,3,1,64,21,256,'[64]','[21]',7446528,2443392,1.3307405099999414233e-01,0.000795719999814537,9,'55aabbcb67195e51','3228ac21747ac827',NULL);
INSERT INTO "round" VALUES('97e52f518936',51,4,1,64,21,320,'[64]','[21]',7446528,2443392,0.000705816999925446,9.98000999970827251672e-04,8,'f6efbea2ea74e85f','e41deca557c7bda0',NULL);
INSERT INTO "round" VALUES('97e52f518936',64,5,1,64,22,384,'[64]','[22]',7446528,2559744,3.23056390000147075625e-02,3.0735032300003695127e-01,8,'21f9684f67a5f91c','498c4cec3d3f4f5c',NULL);
INSERT INTO "round" VALUES('97e52f518936',76,6,1,64,21,448,'[64]','[21]',7446528,2443392,2.9157644499991874909e-01,5.11328820000471750972e-02,8,'c7a7d53edbca05db','0ae77c84022cdde4',NULL);
INSERT INTO "round" VALUES('97e52f518936',89,7,1,52,17,500,'[52]','[17]',6050304,1977984,0.380115509999996,2.17883820000679406803e-02,9,'e2af15ee57215b92','b9ea3ed9a1f1585a',NULL);
INSERT INTO "round" VALUES('c56045f99ce9',0,0,1,64,21,64,'[64]','[21]',7446528,2443392,9.6202417000085915788e-02,2.12664566999819726333e-01,8,'ab7b74222d7152c7','4f6bedbea83d7f47',NULL);
INSERT INTO "round" VALUES('c56045f99ce9',12,1,1,64,21,128,'[64]','[21]',7446528,2443392,1.20012100001076760236e-03,9.10651999902256648056e-04,1,'d8a8e4351334c592','669230d1bb90b122',NULL);
INSERT INTO "round" VALUES('c56045f99ce9',25,2,1,64,22,192,'[64]','[22]',7446528,2559744,7.40108000172767788171e-04,9.42147999921871814876e-04,7,'d713f825380ea076','ab5447c732f38142',NULL);
INSERT INTO "round" VALUES('c56045f99ce9',38,3,1,64,21,256,'[64]','[21]',7446528,2443392,6.89273000034518190659e-04,9.18393000119976932182e-04,2,'84a13deb26b3b67e','8040e30106a9c1f0',NULL);
INSERT INTO "round" VALUES('c56045f99ce9',51,4,1,64,21,320,'[64]','[21]',7446528,2443392,6.78968000102031510323e-04,9.5035000003917957656e-04,3,'66168a142a7fb084','fb907c001e5d89d5',NULL);
INSERT INTO "round" VALUES('c56045f99ce9',64,5,1,64,22,384,'[64]','[22]',7446528,2559744,9.89496029999372694874e-02,9.40485000000990112312e-04,6,'5c14cc6b815e0e88','036b2220806d786f',NULL);
INSERT INTO "round" VALUES('c56045f99ce9',76,6,1,64,21,448,'[64]','[21]',7446528,2443392,2.23933628999930078862e-01,1.91522273000146014965e-01,4,'d814fcfe9940374a','84fccb7b8f684ba9',NULL);
INSERT INTO "round" VALUES('c56045f99ce9',89,7,1,52,17,500,'[52]','[17]',6050304,1977984,2.07761230999949475517e-01,2.11773434999940945999e-01,3,'35bd92696494adcb','585f4c49cd3d40ec',NULL);
INSERT INTO "round" VALUES('f995d0f2b614',0,0,5,5,1,5,'[5]','[1]',581760,116352,1.85872810000091703841e-02,3.05672999957096180878e-04,1,'eb9fcfb000000000','ab822e084e125719',NULL);
INSERT INTO "round" VALUES('f995d0f2b614',1,5,5,5,2,10,'[5]','[2]',581760,232704,2.15568599999187426874e-02,3.81838419998530298471e-02,0,'3083836000000000','d87e4243b82576f2',NULL);
INSERT INTO "round" VALUES('f995d0f2b614',2,10,1,20,7,30,'[20]','[7]',2327040,814464,1.84916199998497177148e-02,1.44818900002974260132e-03,3,'696e126000000000','2e47105227c69d86',NULL);
INSERT INTO "round" VALUES('f995d0f2b614',6,11,1,180,60,210,'[180]','[60]',20943360,6981120,2.87760934000061752158e-01,8.22454350000043632462e-02,22,'4d569305b63f5d86','df83d6c3990ec5af',NULL);
INSERT INTO "round" VALUES('f995d0f2b614',42,12,1,72,24,282,'[72]','[24]',8377344,2792448,2.39579627000011896598e-01,1.88008558999854358262e-01,10,'5996379d4d364678','7c74a27ec008d566',NULL);
INSERT INTO "round" VALUES('f995d0f2b614',56,13,1,218,72,500,'[218]','[72]',25364736,8377344,1.87414110000645450782e-02,1.78652710001188097521e-02,29,'ba6b117737244273','880979a1d2a5e5b2',NULL);
INSERT INTO "round" VALUES('af0f17276570',0,0,5,5,1,5,'[5]','[1]',581760,116352,4.45052271999884396791e-01,6.79497999954037368297e-04,0,'eb9fcfb000000000','ebda585eeebe1f35',NULL);
INSERT INTO "round" VALUES('af0f17276570',1,5,5,5,2,10,'[5]','[2]',581760,232704,4.15720790001614659558e-02,2.56245839000030173338e-01,1,'3083836000000000','6110d11c27a0442a',NULL);
INSERT INTO "round" VALUES('af0f17276570',2,10,1,20,7,30,'[20]','[7]',2327040,814464,5.0344699980087170843e-04,5.94982999928106437437e-04,3,'696e126000000000','210bd51c309815e2',NULL);
INSERT INTO "round" VALUES('af0f17276570',6,11,1,180,60,210,'[180]','[60]',20943360,6981120,4.75837053000077503384e-01,4.28258480000067720538e-01,14,'8959d56c1dc0207f','edc95965540d7500',NULL);
INSERT INTO "round" VALUES('af0f17276570',42,12,1,72,24,282,'[72]','[24]',8377344,2792448,1.00510099991879542358e-03,8.45218229999318282352e-02,0,'ca584496420a0300','bc5cb73400c8ebfd',NULL);
INSERT INTO "round" VALUES('af0f17276570',56,13,1,218,72,500,'[218]','[72]',25364736,8377344,4.20097699999814722104e-01,1.94833210000524559291e-02,16,'61dcfc488b64c99a','ad3102b6e2ac1249',NULL);
CREATE TABLE run (
	id VARCHAR(12) NOT NULL, 
	created DATETIME NOT NULL, 
	command TEXT NOT NULL, 
	scenario_name VARCHAR(255) NOT NULL, 
	scenario_text TEXT NOT NULL, 
	versions JSON, 
	git_commit VARCHAR(255), 
	git_dirty BOOLEAN, 
	host VARCHAR(255) NOT NULL, 
	device VARCHAR(255), 
	python VARCHAR(255) NOT NULL, 
	CONSTRAINT pk_run PRIMARY KEY (id)
);
INSERT INTO "run" VALUES('ef889e3333c7','2026-11-26 00:56:00.734499','arena run tiny.toml','tiny','version = 1
name = "tiny"
description = "A small match that an earlier version played."
seeds = [0, 1]
checkpoints = 4

[data]
use = "digits"

[victim]
use = "conv-small"
recipe = { epochs = 1 }

[clone]
use = "mlp-small"

[threat]
budget = 500
latency = "virtual"

[traffic]
benign = 0.25

[[attackers]]
use = "noise"
name = "noise"

[[attackers]]
use = "exit-timing"
name = "exit-timing"

[[defenders]]
name = "undefended"
defence = [{ use = "undefended" }]
','{"python":"3.11.7","fortress-arena":"0.1.0","torch":"2.14.1","torchvision":"0.29.1","numpy":"2.4.6","gymnasium":"1.4.0","scikit-learn":"1.9.1"}',NULL,NULL,'elsewhere','cpu','3.11.7');
CREATE INDEX ix_run_created ON run (created);
CREATE INDEX ix_episode_attacker_defender ON episode (attacker, defender);
CREATE INDEX ix_episode_plan_hash_status ON episode (plan_hash, status);
CREATE INDEX ix_episode_run_id ON episode (run_id);
CREATE INDEX ix_episode_scenario_name ON episode (scenario_name);
CREATE INDEX ix_episode_started ON episode (started);
CREATE INDEX ix_episode_status_host ON episode (status, host);
CREATE INDEX ix_artifact_episode_id ON artifact (episode_id);
CREATE INDEX ix_event_episode_id ON event (episode_id);
CREATE INDEX ix_inference_episode_id ON inference (episode_id);
COMMIT;
